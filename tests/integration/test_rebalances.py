"""A partition that comes back to a worker, or comes while it still recovers others, has the state of all records that
were read before, whoever read them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from app.process.children.child import ChildProcess
from app.settings import Settings
from app.wire.kafka import ensure_topics, kafka_producer
from app.wire.topics import Topics
from tests.support.eventually import eventually
from tests.support.stage_workers import is_committed, stage_worker
from tests.support.topic_reader import read_until

START = Callable[[str], ChildProcess]


@pytest.fixture
def parted(settings: Settings, partitions: int) -> Settings:
    return settings.model_copy(update={"partitions": partitions})


@pytest.fixture
def start(parted: Settings, tmp_path: Path) -> Iterator[START]:
    """Starts a worker of a name, in a folder of that name."""
    started: list[ChildProcess] = []

    def of(name: str) -> ChildProcess:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        started.append(stage_worker(parted.model_copy(update={"data_dir": directory}), directory))
        started[-1].start()
        return started[-1]

    yield of
    for worker in started:
        worker.stop()


@pytest.fixture
async def send(parted: Settings) -> AsyncIterator[Callable[[int, bytes], object]]:
    """Sends a record to a partition of [ingress], and returns when a stage has delivered it."""
    async with AsyncExitStack() as resources:
        await ensure_topics(parted.kafka())
        producer: AIOKafkaProducer = await resources.enter_async_context(kafka_producer(parted.kafka()))
        topics = Topics.of(parted.names())

        async def to(partition: int, record: bytes) -> None:
            await producer.send_and_wait(topics.ingress, record, key=b"0", partition=partition)
            await read_until(
                parted,
                topics.candles,
                lambda found: record in [one.value for one in found],
                partitions=parted.partitions,
                within_s=60,
            )

        yield to


def follows(worker: ChildProcess, record: bytes, before: bytes) -> bool:
    """Whether the worker's state was of `before` when it read `record`."""
    return f"{record!r} follows {before!r}" in worker.log_file.read_text(errors="replace")


def owns(worker: ChildProcess, count: int) -> bool:
    lines = worker.log_file.read_text(errors="replace").splitlines()
    assigned = [line for line in lines if "partitions_assigned" in line]
    return bool(assigned) and assigned[-1].split("partitions=")[1].split("]")[0].count(",") == count - 1


@pytest.mark.parametrize("partitions", [2])
async def test_partitions_that_come_before_the_last_recovery_has_ended_are_restored_from_their_tables(
    start: START, send: Callable, tmp_path: Path
):
    first = start("first")
    for partition in (0, 1):
        await send(partition, b"ok of %d" % partition)
    (tmp_path / "second").mkdir()
    overlap = tmp_path / "second" / "overlap"
    await asyncio.to_thread(overlap.touch)
    second = start("second")
    await eventually(lambda: not overlap.exists(), within_s=60, of_work=True)
    await asyncio.to_thread(first.stop)
    await eventually(partial(owns, second, 2), within_s=60, of_work=True)
    for partition in (0, 1):
        await send(partition, b"ok at last, %d" % partition)
        assert follows(second, b"ok at last, %d" % partition, b"ok of %d" % partition)


@pytest.mark.parametrize("partitions", [1])
async def test_a_partition_that_others_had_while_its_worker_stood_still_is_restored(
    parted: Settings, start: START, send: Callable
):
    first = start("first")
    await send(0, b"ok by the first")
    await eventually(partial(is_committed, parted, 1))
    os.kill(first.pid or 0, signal.SIGSTOP)
    try:
        second = start("second")
        for number in range(1, 4):
            await send(0, b"ok by the second, %d" % number)
        await eventually(partial(is_committed, parted, 4))
        second.kill()
        await eventually(lambda: not second.running)
    finally:
        os.kill(first.pid or 0, signal.SIGCONT)
    await send(0, b"ok by the first again")
    assert follows(first, b"ok by the first again", b"ok by the second, 3")
