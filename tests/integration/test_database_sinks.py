"""The sinks against the real Kafka-protocol broker, PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import orjson
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from psycopg import AsyncConnection

from app.clock import SystemClock
from app.database.connection import connection_url
from app.database.migrate import migrate
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import free_port
from app.rules.alert import Alert
from app.settings import Settings
from app.sinks.run import run_sinks
from app.telemetry.catalogue import RoleRegistry
from app.wire.barrier import Barrier, BarrierReports
from app.wire.frames import encode_candles, encode_metrics
from app.wire.kafka import client_options, ensure_topics, kafka_producer
from app.wire.redis import connect_redis
from app.wire.topics import Topics
from tests.support.database import MIDNIGHT_MS, alert, candles, metrics
from tests.support.eventually import eventually
from tests.support.servers import settings_for

HOUR_MS = 3_600_000
NO_RETENTION = {"retention_hours": 0}


@asynccontextmanager
async def running_sinks(settings: Settings) -> AsyncIterator[list[bool]]:
    """The sinks of the settings without retention, on a migrated database; gives what they said of their readiness."""
    migrate(settings.postgres())
    said: list[bool] = []
    stop = asyncio.Event()
    kept = settings.model_copy(update=NO_RETENTION)
    task = asyncio.create_task(run_sinks(kept, SystemClock(), RoleRegistry("sinks"), stop, said.append))
    try:
        yield said
    finally:
        stop.set()
        await task


@asynccontextmanager
async def producing(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    await ensure_topics(settings.kafka())
    async with kafka_producer(settings.kafka()) as producer:
        yield producer


async def query(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    async with await AsyncConnection.connect(
        connection_url(settings.postgres()), autocommit=True
    ) as connection:
        return await (await connection.execute(statement)).fetchall()


async def has_rows(settings: Settings, **expected: int) -> bool:
    """False also while the database or its tables are not there."""
    try:
        found = {name: (await query(settings, f"SELECT count(*) FROM {name}"))[0][0] for name in expected}
    except (psycopg.OperationalError, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return False
    return found == expected


def record(stored_alert: Alert) -> bytes:
    return stored_alert.encode()


async def test_closed_candles_their_bars_and_alerts_reach_their_tables(settings: Settings) -> None:
    topics = Topics.of(settings.names())
    closed = np.array([True, True, True, True, True, False])
    minutes = candles(["AUSDT"], 6, closed=closed)
    async with producing(settings) as producer, running_sinks(settings):
        await producer.send_and_wait(topics.candles, encode_candles(minutes), partition=1)
        await producer.send_and_wait(topics.metrics, encode_metrics(metrics(minutes)), partition=1)
        for seq in (0, 1, 0):
            await producer.send_and_wait(topics.alerts, record(alert(seq)), partition=0)
        await eventually(lambda: has_rows(settings, candles_1m=5, metrics_calculated=6, alert_history=2))
        offsets = await query(settings, "SELECT seq, id::text FROM alert_history ORDER BY seq")
    assert offsets == [(0, alert(0).id), (1, alert(1).id)]


async def test_a_barrier_is_reported_when_all_before_it_is_stored(settings: Settings) -> None:
    topics = Topics.of(settings.names())
    redis = connect_redis(settings.server_urls().redis)
    reports = BarrierReports(redis, settings.names())
    stages = ("sinks-candles", "sinks-metrics", "sinks-alerts")
    async with producing(settings) as producer, running_sinks(settings):
        for partition, symbol in enumerate(("AUSDT", "BUSDT")):
            for hour in range(5):
                minutes = candles([symbol], 60, MIDNIGHT_MS + hour * HOUR_MS)
                await producer.send(topics.candles, encode_candles(minutes), partition=partition)
                await producer.send(topics.metrics, encode_metrics(metrics(minutes)), partition=partition)
        await producer.send(topics.alerts, record(alert(1)), partition=0)
        for partition in (0, 1):
            mark = Barrier("b1", partition).encode()
            await producer.send(topics.candles, mark, partition=partition)
            await producer.send(topics.metrics, mark, partition=partition)
            await producer.send(topics.alerts, mark, partition=0)
        await producer.flush()
        expected = {(stage, partition) for stage in stages for partition in (0, 1)}
        found = await eventually(lambda: complete(reports, expected))
        bars = 2 * (300 + 60 + 20 + 5 + 1)
        assert await has_rows(settings, candles_1m=600, metrics_calculated=bars, alert_history=1)
    await redis.aclose()
    rows = {stage: sum(found[stage, partition]["rows"] for partition in (0, 1)) for stage in stages}
    assert rows == {"sinks-candles": 600, "sinks-metrics": bars, "sinks-alerts": 1}


async def complete(
    reports: BarrierReports, expected: set[tuple[str, int]]
) -> dict[tuple[str, int], dict[str, Any]] | None:
    found = await reports.read("b1")
    return found if found.keys() == expected else None


async def test_unusable_records_become_dead_letters_and_their_topics_go_on(settings: Settings) -> None:
    topics = Topics.of(settings.names())
    bad = [
        (topics.candles, b"not a frame", "frame_unreadable"),
        (topics.metrics, b"", "frame_unreadable"),
        (topics.metrics, encode_candles(candles(["AUSDT"], 1)), "frame_kind"),
        (topics.candles, encode_candles(candles(["NUL\x00USDT"], 1)), "bad_symbol"),
        (topics.candles, encode_candles(candles(["NOTHERE"], 1)), "database_refused"),
        (topics.candles, None, "frame_unreadable"),
        (topics.alerts, b"{", "not_json"),
        (topics.alerts, None, "not_json"),
        (topics.alerts, replace(alert(1), id="not a uuid").encode(), "alert_schema"),
    ]
    await asyncio.to_thread(migrate, settings.postgres())
    async with await AsyncConnection.connect(
        connection_url(settings.postgres()), autocommit=True
    ) as connection:
        await connection.execute("ALTER TABLE candles_1m ADD CHECK (symbol <> 'NOTHERE')")
    async with producing(settings) as producer, running_sinks(settings):
        sources = {}
        for topic, value, reason in bad:
            sent = await producer.send_and_wait(topic, value, key=b"0", partition=0)
            sources[f"{topic}/0/{sent.offset}"] = (reason, value or b"")
        for good in (0, 1):
            minutes = candles(["AUSDT"], 1, MIDNIGHT_MS + good * 60_000)
            await producer.send(topics.candles, encode_candles(minutes), partition=0)
            await producer.send(topics.metrics, encode_metrics(metrics(minutes)), partition=0)
            await producer.send_and_wait(topics.alerts, record(alert(good)), partition=0)
        await eventually(lambda: has_rows(settings, candles_1m=2, metrics_calculated=2, alert_history=2))
        letters = await first_records(settings, topics.dead_letters, len(bad))
    found = {letter["source"]: (letter["reason"], base64.b64decode(letter["original"])) for letter in letters}
    assert found == sources


REFUSING = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.symbol = 'NOTHERE' THEN RAISE EXCEPTION 'not this one' USING ERRCODE = '{state}'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON candles_1m FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@pytest.mark.parametrize("state", ["53400", "0A000", "54000", "55000", "P0001"])
async def test_a_fault_that_time_does_not_heal_costs_its_record_and_never_holds_the_sink(
    settings: Settings, state: str
) -> None:
    """53400 and its neighbours are OperationalErrors, as a lost connection is."""
    topics = Topics.of(settings.names())
    await asyncio.to_thread(migrate, settings.postgres())
    async with await AsyncConnection.connect(
        connection_url(settings.postgres()), autocommit=True
    ) as connection:
        await connection.execute(REFUSING.format(state=state))
    async with producing(settings) as producer:
        for symbol in ("AUSDT", "NOTHERE", "BUSDT"):
            await producer.send_and_wait(topics.candles, encode_candles(candles([symbol], 2)), partition=0)
        async with running_sinks(settings):
            await eventually(lambda: has_rows(settings, candles_1m=4))
            [letter] = await first_records(settings, topics.dead_letters, 1)
    assert (letter["reason"], letter["source"]) == ("database_refused", f"{topics.candles}/0/1")
    assert "not this one" in letter["message"]


async def first_records(settings: Settings, topic: str, count: int) -> list[dict[str, Any]]:
    async with AIOKafkaConsumer(
        topic, **client_options(settings.kafka()), auto_offset_reset="earliest"
    ) as consumer:
        return [orjson.loads((await consumer.getone()).value) for _ in range(count)]


async def test_what_is_stored_is_not_read_again_by_the_next_process(settings: Settings) -> None:
    topics = Topics.of(settings.names())
    async with producing(settings) as producer:
        async with running_sinks(settings):
            for seq in range(3):
                await producer.send_and_wait(topics.alerts, record(alert(seq)), partition=0)
            await eventually(lambda: has_rows(settings, alert_history=3))
        consumer = AIOKafkaConsumer(
            **client_options(settings.kafka()),
            group_id=settings.name("sinks-alerts"),
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            committed = await consumer.committed(TopicPartition(topics.alerts, 0))
        finally:
            await consumer.stop()
    assert committed == 3


async def test_nothing_is_lost_when_the_database_is_killed_and_comes_back(
    stack: EmbeddedStack, tmp_path: Path
) -> None:
    """PostgreSQL is killed under load and started again on its old data and port; frames keep coming."""
    with OwnPostgres(tmp_path) as postgres:
        settings = settings_for(stack.urls | postgres.stack.urls)
        async with producing(settings) as producer, running_sinks(settings) as said:
            await eventually(lambda: said == [True])
            await send_hours(producer, settings, range(4))
            await eventually(lambda: has_rows(settings, candles_1m=240))

            await send_hours(producer, settings, range(4, 6))
            postgres.kill()
            await send_hours(producer, settings, range(6, 8))
            await eventually(lambda: said == [True, False])
            postgres.start_again()

            await send_hours(producer, settings, range(8, 12))
            await eventually(lambda: has_rows(settings, candles_1m=720, alert_history=12))
            await eventually(lambda: said == [True, False, True])


class OwnPostgres:
    """A database that may be killed, with its data in a folder and one port for its whole life."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "private"
        self._port = free_port()
        self.stack = self._started()

    def _started(self) -> EmbeddedStack:
        return EmbeddedStack.start(self._folder, ["postgres"], {"postgres": self._port})

    def kill(self) -> None:
        self.stack.processes["postgres"].kill()

    def start_again(self) -> None:
        self.stack.stop()
        self.stack = self._started()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.stop()


async def send_hours(
    producer: AIOKafkaProducer, settings: Settings, hours: range, partition: int = 0
) -> None:
    topics = Topics.of(settings.names())
    for hour in hours:
        minutes = candles(["AUSDT"], 60, MIDNIGHT_MS + hour * HOUR_MS)
        await producer.send_and_wait(topics.candles, encode_candles(minutes), partition=partition)
        await producer.send_and_wait(topics.alerts, record(alert(hour)), partition=0)


async def test_sinks_stop_while_the_database_is_away_and_the_next_ones_store_the_rest(
    stack: EmbeddedStack, tmp_path: Path
) -> None:
    with OwnPostgres(tmp_path) as postgres:
        settings = settings_for(stack.urls | postgres.stack.urls)
        async with producing(settings) as producer:
            async with running_sinks(settings) as said:
                await eventually(lambda: said == [True])
                postgres.kill()
                await send_hours(producer, settings, range(1))
                await eventually(lambda: said == [True, False])
            postgres.start_again()
            async with running_sinks(settings):
                await eventually(lambda: has_rows(settings, candles_1m=60, alert_history=1), within_s=60)


async def test_nothing_is_lost_while_processes_join_and_leave(settings: Settings) -> None:
    async with producing(settings) as producer, running_sinks(settings) as first:
        await eventually(lambda: first == [True])
        sent = 0

        async def send_until(done: Callable[[], bool]) -> None:
            nonlocal sent
            while not done():
                await send_hours(producer, settings, range(sent, sent + 1), partition=sent % 2)
                sent += 1
                await asyncio.sleep(0)

        async with running_sinks(settings) as second:
            await asyncio.wait_for(send_until(lambda: second == [True]), timeout=60)
            here = sent
            await send_until(lambda: sent == here + 20)
        await send_until(lambda: sent == here + 40)
        await eventually(lambda: has_rows(settings, candles_1m=60 * sent, alert_history=sent), within_s=60)
