"""A namespace dropped from real servers, and nothing else with it."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from pathlib import Path

import nats
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.cluster import ClusterMetadata
from click.testing import CliRunner

from app.alerts.cooldowns import Cooldowns
from app.alerts.known_rules import KnownRules
from app.cli.commands.machine import drop_namespace_command
from app.database.connection import connection_url
from app.database.migrate import migrate
from app.errors import ServerUnreachable, SettingsError
from app.replay.namespace import drop_namespace
from app.rules.files import shipped_rules
from app.settings import Settings
from app.telemetry import alert_metrics
from app.wire.kafka import client_options, ensure_topics
from app.wire.nats.stream import connect, ensure_stream, stream_name
from app.wire.redis import connect_redis
from app.wire.topics import Topics
from tests.support.eventually import eventually
from tests.support.metric_values import UNREAD


async def make(settings: Settings) -> None:
    """What a replay leaves on each server."""
    await ensure_topics(settings.kafka())
    await asyncio.to_thread(migrate, settings.postgres())
    client = await connect(settings.nats().url, "test")
    await ensure_stream(client, settings.names())
    await client.close()
    redis = connect_redis(settings.server_urls().redis)
    await Cooldowns(redis, settings.names(), alert_metrics(UNREAD)).record(
        {(f"rule {n}", "BTCUSDT"): n for n in range(2_500)}
    )
    await redis.aclose()
    admin = AIOKafkaAdminClient(**client_options(settings.kafka()))
    await admin.start()
    await admin.create_topics([NewTopic(settings.name("all-minutes-changelog"), 1, 1)])
    await admin.close()
    consumer = AIOKafkaConsumer(
        Topics.of(settings.names()).alerts,
        **client_options(settings.kafka()),
        group_id=settings.name("sinks-alerts"),
    )
    await consumer.start()
    await consumer.stop()


async def left(settings: Settings) -> dict[str, int]:
    """How much there is of the namespace, by kind."""
    client = await nats.connect(settings.server_urls().nats)
    streams = [info.config.name for info in await client.jetstream().streams_info()]
    await client.close()
    redis = connect_redis(settings.server_urls().redis)
    keys = await redis.keys(settings.name("*"))
    await redis.aclose()
    admin = AIOKafkaAdminClient(**client_options(settings.kafka()))
    await admin.start()
    topics, groups = await admin.list_topics(), await admin.list_consumer_groups()
    await admin.close()
    with psycopg.connect(connection_url(settings.postgres())) as connection:
        schema = connection.execute("SELECT to_regnamespace(%s)", (settings.database_schema,)).fetchone()
    prefix = settings.name("")
    return {
        "streams": streams.count(stream_name(settings.names())),
        "keys": len(keys),
        "topics": sum(topic.startswith(prefix) for topic in topics),
        "groups": sum(group.startswith(prefix) for group, _ in groups),
        "schemas": int(schema != (None,)),
    }


ALL = {"streams": 1, "keys": 2_500, "topics": len(fields(Topics)) + 1, "groups": 1, "schemas": 1}
NOTHING = dict.fromkeys(ALL, 0)


async def test_nothing_is_left_of_a_dropped_namespace_and_all_of_its_neighbours(
    settings: Settings, tmp_path: Path
):
    dropped = settings.model_copy(update={"data_dir": tmp_path})
    neighbour = settings.model_copy(update={"namespace": settings.namespace + "_b", "data_dir": tmp_path})
    for one in (dropped, neighbour):
        await make(one)
        (tmp_path / "faust" / one.name("all")).mkdir(parents=True)
        KnownRules(tmp_path, one.names()).write(shipped_rules())
        assert await left(one) == ALL
    await drop_namespace(dropped.servers(), dropped.data_dir)
    assert await left(dropped) == NOTHING
    assert await left(neighbour) == ALL
    assert [folder.name for folder in (tmp_path / "faust").iterdir()] == [neighbour.name("all")]
    assert [file.stem for file in (tmp_path / "rules").iterdir()] == [neighbour.name("rules")]
    await drop_namespace(dropped.servers(), dropped.data_dir)
    await drop_namespace(neighbour.servers(), neighbour.data_dir)
    assert await left(neighbour) == NOTHING


async def test_a_group_that_still_has_members_is_dropped_when_they_are_gone(settings: Settings):
    await make(settings)
    consumer = AIOKafkaConsumer(
        Topics.of(settings.names()).alerts,
        **client_options(settings.kafka()),
        group_id=settings.name("sinks-alerts"),
    )
    await consumer.start()
    dropping = asyncio.create_task(drop_namespace(settings.servers(), settings.data_dir))
    await eventually(lambda: topics_are_gone(settings))
    await consumer.stop()
    await dropping
    assert await left(settings) == NOTHING


async def topics_are_gone(settings: Settings) -> bool:
    return (await left(settings))["topics"] == 0


async def test_a_broker_that_names_no_controller_is_called_away(settings: Settings, tmp_path: Path):
    await make(settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClusterMetadata, "controller", property(lambda _: None, lambda *_: None), raising=False)
        with pytest.raises(ServerUnreachable, match="it names no controller"):
            await drop_namespace(settings.servers(), tmp_path)
    await drop_namespace(settings.servers(), tmp_path)
    assert await left(settings) == NOTHING


@pytest.mark.parametrize("namespace", ["", "public", "pg_catalog", "information_schema"])
async def test_a_namespace_that_others_share_is_refused(settings: Settings, namespace: str):
    with pytest.raises(SettingsError, match="cannot be dropped"):
        await drop_namespace(
            settings.model_copy(update={"namespace": namespace}).servers(), settings.data_dir
        )


async def test_a_schema_that_no_screener_made_is_left_alone(settings: Settings):
    with psycopg.connect(connection_url(settings.postgres()), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {settings.database_schema}")
        await drop_namespace(settings.servers(), settings.data_dir)
        assert (await left(settings))["schemas"] == 1
        connection.execute(f"DROP SCHEMA {settings.database_schema}")


async def test_the_command_asks_before_it_drops(settings: Settings):
    await make(settings)
    runner = CliRunner(env=settings.servers_environ())

    def said(answer: str) -> str:
        return runner.invoke(drop_namespace_command, [settings.namespace], input=answer).output

    assert "Aborted" in await asyncio.to_thread(said, "n\n")
    assert await left(settings) == ALL
    assert "nothing is left" in await asyncio.to_thread(said, "y\n")
    assert await left(settings) == NOTHING
