"""Removing all that a namespace has on the servers: what a replay there leaves behind."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable

import psycopg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupIdNotFound,
    KafkaError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.admin import DeleteGroupsRequest
from nats.js.errors import NotFoundError
from psycopg import sql
from redis.asyncio import Redis
from redis.exceptions import RedisError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from app.barrier import connect_barriers
from app.database.connection import connection_url, unreachable
from app.database.migrate import MIGRATION_TABLE
from app.errors import ServerError, ServerUnreachable, SettingsError
from app.ingress.pull import connect, stream_name
from app.kafka_access import kafka_access
from app.known_rules import KnownRules
from app.settings import Settings

_KEYS_PER_CALL = 1_000
_MEMBERS_GONE_AFTER_S = 20.0
_RESERVED_SCHEMAS = ("public", "information_schema")


async def drop_namespace(settings: Settings) -> None:
    """Deletes the namespace's stream, topics (those of tables too), consumer groups, Redis keys, database schema
    and what its workers keep on this machine. Stop its roles before: they would make some of it again.

    What is not there is no error, so that a call that failed can be repeated. Raises SettingsError for the empty
    namespace, whose names cannot be told from other programs', ServerUnreachable if a server does not answer, and
    ServerError if one refuses.
    """
    if not settings.namespace or settings.database_schema.startswith(("pg_", *_RESERVED_SCHEMAS)):
        raise SettingsError(
            f"the namespace {settings.namespace!r} cannot be dropped: its names may be of other programs too; "
            "name one that a replay or a second screener used"
        )
    await _drop_stream(settings)
    await _drop_kafka(settings)
    await _drop_keys(settings)
    await asyncio.to_thread(_drop_schema, settings)
    for folder in (settings.data_dir / "faust").glob(settings.name("*")):
        shutil.rmtree(folder, ignore_errors=True)
    KnownRules(settings).forget()


async def _drop_stream(settings: Settings) -> None:
    client = await connect(settings, "drop-namespace")
    try:
        await client.jetstream().delete_stream(stream_name(settings))
    except NotFoundError:
        return
    finally:
        await client.close()


async def _drop_kafka(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(**kafka_access(settings))
    try:
        await admin.start()
        topics = [topic for topic in await admin.list_topics() if _is_ours(settings, topic)]
        if topics:
            response = await admin.delete_topics(topics)
            _check(response.topic_error_codes, UnknownTopicOrPartitionError, "topic")
        groups = [group for group, *_ in await admin.list_consumer_groups() if _is_ours(settings, group)]
        for group in groups:
            await _drop_group(admin, group)
    except KafkaError as error:
        raise ServerUnreachable(
            f"Kafka does not do what it takes to drop {settings.namespace!r} at {settings.kafka_url}: {error!r}; "
            "try again, or set SCREENER_KAFKA_URL to host:port of a broker"
        ) from error
    finally:
        await admin.close()


async def _drop_group(admin: AIOKafkaAdminClient, group: str) -> None:
    """A member that was killed stays in its group until its session has timed out."""
    async for attempt in AsyncRetrying(
        wait=wait_exponential_jitter(multiplier=0.2, max=2.0),
        stop=stop_after_delay(_MEMBERS_GONE_AFTER_S),
        retry=retry_if_exception_type(ServerError),
        reraise=True,
    ):
        with attempt:
            node = await admin.find_coordinator(group)
            # its public interface cannot delete groups
            response = await admin._send_request_to_node(node, DeleteGroupsRequest([group]))
            _check(response.results, GroupIdNotFound, "consumer group")


def _is_ours(settings: Settings, name: str) -> bool:
    return name.startswith(settings.name(""))


def _check(results: Iterable[tuple[str, int]], gone: type[KafkaError], what: str) -> None:
    for name, code in results:
        if code not in (0, gone.errno):
            raise ServerError(
                f"Kafka does not delete the {what} {name!r}: {for_code(code).__name__}; "
                "stop the roles of the namespace and try again"
            )


async def _drop_keys(settings: Settings) -> None:
    redis: Redis = connect_barriers(settings.server_urls().redis)
    try:
        # a namespace has no character that means something in a pattern
        found = [key async for key in redis.scan_iter(settings.name("*"), count=_KEYS_PER_CALL)]
        for start in range(0, len(found), _KEYS_PER_CALL):
            await redis.unlink(*found[start : start + _KEYS_PER_CALL])
    except (RedisError, OSError, TimeoutError) as error:
        raise ServerUnreachable(
            f"Redis does not answer: {error}; set SCREENER_REDIS_URL to redis://host:port/database"
        ) from error
    finally:
        await redis.aclose()


def _drop_schema(settings: Settings) -> None:
    """A schema that no screener migrated is left alone."""
    schema = settings.database_schema
    try:
        with psycopg.connect(connection_url(settings, statement_timeout_ms=0), autocommit=True) as connection:
            found = connection.execute("SELECT to_regclass(%s)", (f"{schema}.{MIGRATION_TABLE}",)).fetchone()
            if found == (None,):
                return
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
    except psycopg.OperationalError as error:
        raise unreachable(settings, error) from error
