"""What all stages share, in a real worker: poison is set aside, and a failure is never acknowledged."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from agents.stage import EXIT_UNEXPECTED
from app.barrier import Barrier, BarrierReports
from app.cooldown import connect_redis
from app.kafka import ensure_topics, kafka_producer
from app.settings import Settings
from app.stack.process import ChildProcess
from app.supervisor import role_environ
from app.topics import Topics
from tests.support.eventually import eventually
from tests.support.topic_reader import dead_letters, read_until


@pytest.fixture
def one_partition(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"partitions": 1, "data_dir": tmp_path})


@pytest.fixture
async def producer(one_partition: Settings) -> AsyncIterator[AIOKafkaProducer]:
    await ensure_topics(one_partition)
    async with kafka_producer(one_partition) as started:
        yield started


@pytest.fixture
def healed(tmp_path: Path) -> Path:
    """Its existence lets the stage deal with the record that it fails on."""
    return tmp_path / "healed"


@pytest.fixture
def worker(one_partition: Settings, healed: Path, tmp_path: Path) -> Iterator[ChildProcess]:
    environ = role_environ(one_partition) | {"STAGE_TEST_HEALED": str(healed)}
    argv = [sys.executable, "-m", "faust", "-A", "tests.support.stage_worker", "worker", "--without-web"]
    process = ChildProcess("echo worker", argv, tmp_path / "worker.log", env=environ)
    process.start()
    yield process
    process.stop()


async def send(producer: AIOKafkaProducer, settings: Settings, *records: bytes | None) -> None:
    for record in records:
        await producer.send_and_wait(Topics.of(settings).ingress, record, key=b"0", partition=0)


async def delivered(settings: Settings, last: bytes) -> list[bytes]:
    """All that the stage delivered, up to `last`."""
    records = await read_until(
        settings, Topics.of(settings).candles, lambda found: last in [record.value for record in found]
    )
    return [record.value for record in records]


async def committed(settings: Settings) -> int:
    """The next record of [ingress] that the worker's group would read; 0 before it committed any."""
    topic = TopicPartition(Topics.of(settings).ingress, 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.server_urls().kafka,
        group_id=settings.name("echo"),
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        consumer.assign([topic])
        return await consumer.committed(topic) or 0
    finally:
        await consumer.stop()


async def test_a_stage_sets_poison_aside_and_goes_on_and_passes_barriers(
    one_partition: Settings, producer: AIOKafkaProducer, worker: ChildProcess
):
    barrier = Barrier("here", 0)
    likeness = b"screener-barrier:\xff"
    await send(producer, one_partition, b"ok 1", b"bad", likeness, None, b"ok 2", barrier.encode())
    assert await delivered(one_partition, barrier.encode()) == [b"ok 1", b"ok 2", barrier.encode()]
    letters = await dead_letters(one_partition, 3)
    assert [base64.b64decode(letter["original"]) for letter in letters] == [b"bad", likeness, b""]
    ingress = Topics.of(one_partition).ingress
    assert [letter["source"] for letter in letters] == [f"{ingress}/0/{offset}" for offset in (1, 2, 3)]
    assert {(letter["stage"], letter["reason"]) for letter in letters} == {("echo", "frame_unreadable")}
    redis = connect_redis(one_partition.server_urls().redis)
    assert ("echo", 0) in await BarrierReports(redis, one_partition).read("here")
    await redis.aclose()
    assert worker.running


async def test_the_unexpected_ends_the_process_before_anything_of_it_is_committed(
    one_partition: Settings, producer: AIOKafkaProducer, worker: ChildProcess, healed: Path
):
    await send(producer, one_partition, b"ok 1", b"boom", b"ok 2")
    assert await asyncio.to_thread(worker.wait, 60) == EXIT_UNEXPECTED
    assert "stage_failed" in worker.log_file.read_text()
    assert await committed(one_partition) <= 1
    assert await delivered(one_partition, b"ok 1") == [b"ok 1"]

    await asyncio.to_thread(healed.touch)
    worker.start()
    assert (await delivered(one_partition, b"ok 2"))[-2:] == [b"boom", b"ok 2"]
    await eventually(lambda: is_committed(one_partition, 3))


async def is_committed(settings: Settings, offset: int) -> bool:
    return await committed(settings) >= offset
