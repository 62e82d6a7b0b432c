"""Bridge and sinks, as processes: what ended them three times is set aside, and the rest goes on."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import pytest
from aiokafka import AIOKafkaProducer

from app.database.migrate import migrate
from app.process.children.child import ChildProcess
from app.process.children.supervisor import role_environ
from app.settings import Settings
from app.wire.frames import encode_candles
from app.wire.kafka import ensure_topics, kafka_producer
from app.wire.nats.stream import ensure_stream, stream_name
from app.wire.topics import Topics
from tests.integration.test_database_sinks import has_rows
from tests.support.candle_messages import message
from tests.support.database import candles
from tests.support.eventually import eventually
from tests.support.topic_reader import dead_letters, ingress_candles


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"partitions": 1, "data_dir": tmp_path, "retention_hours": 0})


@pytest.fixture
async def producer(here: Settings) -> AsyncIterator[AIOKafkaProducer]:
    await ensure_topics(here.kafka())
    async with kafka_producer(here.kafka()) as started:
        yield started


def role(name: str, settings: Settings, log_dir: Path) -> ChildProcess:
    argv = [sys.executable, "-m", "tests.support.poisoned_role", name]
    return ChildProcess(name, argv, log_dir / f"{name}.log", env=role_environ(settings))


@pytest.fixture
def sinks(here: Settings, tmp_path: Path) -> Iterator[ChildProcess]:
    migrate(here.postgres())
    process = role("sinks", here, tmp_path)
    yield process
    process.stop()


@pytest.fixture
def bridge(here: Settings, tmp_path: Path) -> Iterator[ChildProcess]:
    process = role("bridge", here, tmp_path)
    yield process
    process.stop()


async def ends_three_times_and_is_started_again(process: ChildProcess) -> None:
    for _ in range(3):
        process.start()
        assert await asyncio.to_thread(process.wait, 90) not in (None, 0), process.log_tail()
    process.start()


@pytest.mark.parametrize("poison", ["EXITUSDT", "KILLUSDT", "RAISEUSDT"])
async def test_a_message_at_which_the_bridge_ended_three_times_is_set_aside_whole(
    here: Settings, producer: AIOKafkaProducer, bridge: ChildProcess, poison: str
):
    client = await nats.connect(here.server_urls().nats)
    await ensure_stream(client, here.names())
    for symbol in ("AUSDT", poison, "BUSDT"):
        await client.jetstream().publish(here.name(f"candles.1m.{symbol}"), message(symbol))
    await ends_three_times_and_is_started_again(bridge)
    [letter] = await dead_letters(here, 1)
    assert (letter["stage"], letter["reason"]) == ("bridge", "quarantined")
    assert base64.b64decode(letter["original"]) == message(poison)
    assert {row.symbol for _, row in await ingress_candles(here, 2)} == {"AUSDT", "BUSDT"}
    assert bridge.running
    await client.jetstream().delete_stream(stream_name(here.names()))
    await client.close()


@pytest.mark.parametrize("poison", ["KILLUSDT", "RAISEUSDT"])
async def test_a_record_at_which_the_sinks_ended_three_times_is_set_aside(
    here: Settings, producer: AIOKafkaProducer, sinks: ChildProcess, poison: str
):
    frames = {symbol: encode_candles(candles([symbol], 1)) for symbol in ("AUSDT", poison, "BUSDT")}
    topic = Topics.of(here.names()).candles
    for frame in frames.values():
        await producer.send_and_wait(topic, frame, partition=0)
    await ends_three_times_and_is_started_again(sinks)
    [letter] = await dead_letters(here, 1)
    assert (letter["stage"], letter["reason"]) == ("sinks-candles", "quarantined")
    assert letter["source"] == f"{topic}/0/1"
    assert base64.b64decode(letter["original"]) == frames[poison]
    await eventually(lambda: has_rows(here, candles_1m=2))
    assert sinks.running
