"""The namespace of a replay. It must be unused, or the candles would be taken for repeats and old cooldowns would
suppress alerts. It is removed from all servers afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
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

from app.alerts.known_rules import KnownRules
from app.database.in_thread import in_thread
from app.database.migrate import MIGRATION_TABLE
from app.errors import ServerError, ServerUnreachable, SettingsError
from app.library_internals import send_to_node
from app.settings.access import AllServers, KafkaAccess, NatsAccess, RedisAccess
from app.wire.barrier import connect_barriers
from app.wire.kafka import client_options, require_controller
from app.wire.nats.stream import connect, stream_name
from app.wire.retry import OutageLog, retried
from app.wire.topics import Topics

_KEYS_PER_CALL = 1_000
_MEMBERS_GONE_AFTER_S = 20.0
_RESERVED_SCHEMAS = ("public", "information_schema")

log = structlog.get_logger("clean-up")


async def require_fresh_namespace(nats: NatsAccess, kafka: KafkaAccess) -> None:
    """Check the namespace. Raises SettingsError if candles or alerts have passed through it before."""
    if await _has_messages(nats) or await _has_alerts(kafka):
        raise SettingsError(
            f"namespace {nats.namespace.prefix!r} has been used on these servers: a replay into it would take its "
            "candles for repeats; choose another with --namespace, or leave the option out"
        )


async def _has_messages(nats: NatsAccess) -> bool:
    client = await connect(nats.url, "replay-check")
    try:
        stream = await client.jetstream().stream_info(stream_name(nats.namespace))
    except NotFoundError:
        return False
    finally:
        await client.close()
    return stream.state.last_seq > 0


async def _has_alerts(kafka: KafkaAccess) -> bool:
    topic = TopicPartition(Topics.of(kafka.namespace).alerts, 0)
    consumer = AIOKafkaConsumer(**client_options(kafka))
    await consumer.start()
    try:
        ends = await consumer.end_offsets([topic])
    finally:
        await consumer.stop()
    return bool(ends[topic] > 0)


async def drop_namespace(servers: AllServers, data_dir: Path) -> None:
    """Delete the namespace's streams, topics (of tables too), consumer groups, Redis keys, database schema
    and its workers' files in `data_dir`. Stop its roles before: they would make some of it again.

    A missing part is no error, so that a call that failed can be repeated. Raises SettingsError for the empty
    namespace, whose names cannot be told from other programs', ServerUnreachable if a server does not answer, and
    ServerError if one refuses.
    """
    namespace = servers.nats.namespace
    if not namespace.prefix or servers.postgres.schema.startswith(("pg_", *_RESERVED_SCHEMAS)):
        raise SettingsError(
            f"the namespace {namespace.prefix!r} cannot be dropped: its names may be of other programs too; "
            "name one that a replay or a second screener used"
        )
    await _drop_streams(servers.nats)
    await _drop_kafka(servers.kafka)
    await _drop_keys(servers.redis)
    schema = servers.postgres.schema
    await in_thread(servers.postgres, lambda connection: _drop_schema(connection, schema))
    for folder in (data_dir / "faust").glob(namespace.name("*")):
        shutil.rmtree(folder, ignore_errors=True)
    KnownRules(data_dir, namespace).forget()


async def _drop_streams(nats: NatsAccess) -> None:
    client = await connect(nats.url, "drop-namespace")
    try:
        for plain in ("candles", "alerts", "metrics"):
            with suppress(NotFoundError):
                await client.jetstream().delete_stream(stream_name(nats.namespace, plain))
    finally:
        await client.close()


async def _drop_kafka(kafka: KafkaAccess) -> None:
    ours = kafka.namespace.name("")
    admin = AIOKafkaAdminClient(**client_options(kafka))
    try:
        await admin.start()
        topics = [topic for topic in await admin.list_topics() if topic.startswith(ours)]
        if topics:
            await require_controller(admin)
            response = await admin.delete_topics(topics)
            _check(response.topic_error_codes, UnknownTopicOrPartitionError, "topic")
        groups = [group for group, *_ in await admin.list_consumer_groups() if group.startswith(ours)]
        for group in groups:
            await _drop_group(admin, group)
    except KafkaError as error:
        raise ServerUnreachable(
            f"Kafka fails to drop {kafka.namespace.prefix!r} at {kafka.servers}: {error!r}; "
            "try again, or set SCREENER_KAFKA_URL to host:port of a broker"
        ) from error
    finally:
        await admin.close()


async def _drop_group(admin: AIOKafkaAdminClient, group: str) -> None:
    """Delete a consumer group, with retries: a killed member stays in its group until its session has timed out."""

    async def delete() -> None:
        node = await admin.find_coordinator(group)
        response = await send_to_node(admin, node, DeleteGroupsRequest([group]))
        _check(response.results, GroupIdNotFound, "consumer group")

    await retried(
        delete,
        OutageLog(log, "group_not_deleted", group=group),
        heals=lambda error: isinstance(error, ServerError),
        give_up_s=_MEMBERS_GONE_AFTER_S,
    )


def _check(results: Iterable[tuple[str, int]], gone: type[KafkaError], what: str) -> None:
    for name, code in results:
        if code not in (0, gone.errno):
            raise ServerError(
                f"Kafka does not delete the {what} {name!r}: {for_code(code).__name__}; "
                "stop the roles of the namespace and retry"
            )


async def _drop_keys(access: RedisAccess) -> None:
    redis: Redis = connect_barriers(access.url)
    try:
        # a namespace has no special characters of patterns
        found = [key async for key in redis.scan_iter(access.name("*"), count=_KEYS_PER_CALL)]
        for start in range(0, len(found), _KEYS_PER_CALL):
            await redis.unlink(*found[start : start + _KEYS_PER_CALL])
    except (RedisError, OSError, TimeoutError) as error:
        raise ServerUnreachable(
            f"Redis does not answer: {error}; set SCREENER_REDIS_URL to redis://host:port/database"
        ) from error
    finally:
        await redis.aclose()


def _drop_schema(connection: psycopg.Connection[Any], schema: str) -> None:
    """Drop the schema, unless no screener has migrated it."""
    found = connection.execute("SELECT to_regclass(%s)", (f"{schema}.{MIGRATION_TABLE}",)).fetchone()
    if found == (None,):
        return
    connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
