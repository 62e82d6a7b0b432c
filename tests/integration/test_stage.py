"""What all stages share, in a real worker: poison is set aside, and a failure is never acknowledged."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from app.process.children.child import ChildProcess
from app.process.exit_status import EXIT_TEMPORARY, EXIT_UNEXPECTED
from app.settings import Settings
from app.wire.barrier import Barrier, BarrierReports
from app.wire.kafka import ensure_topics, kafka_producer
from app.wire.redis import connect_redis
from app.wire.topics import Topics
from tests.support.eventually import eventually
from tests.support.stage_workers import committed, is_committed, stage_worker
from tests.support.topic_reader import dead_letters, read_until


@pytest.fixture
def one_partition(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"partitions": 1, "data_dir": tmp_path})


@pytest.fixture
async def producer(one_partition: Settings) -> AsyncIterator[AIOKafkaProducer]:
    await ensure_topics(one_partition.kafka())
    async with kafka_producer(one_partition.kafka()) as started:
        yield started


@pytest.fixture
def healed(tmp_path: Path) -> Path:
    """Its existence lets the stage deal with the record that it fails on."""
    return tmp_path / "healed"


@pytest.fixture
def worker(one_partition: Settings, healed: Path, tmp_path: Path) -> Iterator[ChildProcess]:
    process = stage_worker(one_partition, tmp_path)
    process.start()
    yield process
    process.stop()


async def send(producer: AIOKafkaProducer, settings: Settings, *records: bytes | None) -> None:
    for record in records:
        await producer.send_and_wait(Topics.of(settings.names()).ingress, record, key=b"0", partition=0)


async def delivered(settings: Settings, last: bytes) -> list[bytes]:
    """All that the stage delivered, up to `last`."""
    records = await read_until(
        settings,
        Topics.of(settings.names()).candles,
        lambda found: last in [record.value for record in found],
    )
    return [record.value for record in records]


async def test_a_stage_sets_poison_aside_and_goes_on_and_passes_barriers(
    one_partition: Settings, producer: AIOKafkaProducer, worker: ChildProcess
):
    barrier = Barrier("here", 0)
    likeness = b"screener-barrier:\xff"
    await send(producer, one_partition, b"ok 1", b"bad", likeness, None, b"ok 2", barrier.encode())
    assert await delivered(one_partition, barrier.encode()) == [b"ok 1", b"ok 2", barrier.encode()]
    letters = await dead_letters(one_partition, 3)
    assert [base64.b64decode(letter["original"]) for letter in letters] == [b"bad", likeness, b""]
    ingress = Topics.of(one_partition.names()).ingress
    assert [letter["source"] for letter in letters] == [f"{ingress}/0/{offset}" for offset in (1, 2, 3)]
    assert {(letter["stage"], letter["reason"]) for letter in letters} == {("echo", "frame_unreadable")}
    redis = connect_redis(one_partition.server_urls().redis)
    assert ("echo", 0) in await BarrierReports(redis, one_partition.names()).read("here")
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


async def test_a_record_that_comes_while_tables_have_just_been_recovered_is_not_lost(
    one_partition: Settings, producer: AIOKafkaProducer, worker: ChildProcess, healed: Path, tmp_path: Path
):
    await send(producer, one_partition, b"ok 1")
    assert await delivered(one_partition, b"ok 1") == [b"ok 1"]
    await eventually(lambda: is_committed(one_partition, 1))
    await asyncio.to_thread(worker.stop)
    await send(producer, one_partition, b"wait", b"ok 2")
    slow = tmp_path / "slow"
    await asyncio.to_thread(slow.touch)
    worker.start()
    await eventually(lambda: not slow.exists(), within_s=60)
    await asyncio.to_thread(healed.touch)
    await send(producer, one_partition, b"ok 3")
    assert await delivered(one_partition, b"ok 3") == [b"ok 1", b"wait", b"ok 2", b"ok 3"]


async def ends(worker: ChildProcess, most: int) -> list[int]:
    """The exit statuses of a worker that is started again whenever it ends, up to `most` times."""
    statuses = [await asyncio.to_thread(worker.wait, 60)]
    while len(statuses) < most:
        worker.start()
        statuses.append(await asyncio.to_thread(worker.wait, 60))
    return statuses


@pytest.mark.parametrize(
    ("poison", "status"),
    [
        (b"boom", EXIT_UNEXPECTED),
        (b"kill", -9),
        (b"too much", EXIT_UNEXPECTED),
    ],
)
async def test_a_record_at_which_the_process_ended_three_times_is_set_aside_and_the_stage_goes_on(
    one_partition: Settings, producer: AIOKafkaProducer, worker: ChildProcess, poison: bytes, status: int
):
    await send(producer, one_partition, b"ok 1", poison, b"ok 2")
    assert await ends(worker, 3) == [status] * 3
    worker.start()
    assert set(await delivered(one_partition, b"ok 2")) == {b"ok 1", b"ok 2"}
    [letter] = await dead_letters(one_partition, 1)
    assert (letter["stage"], letter["reason"]) == ("echo", "quarantined")
    assert base64.b64decode(letter["original"]) == poison
    assert letter["source"] == f"{Topics.of(one_partition.names()).ingress}/0/1"
    if status == EXIT_UNEXPECTED:
        assert "Traceback" in letter["message"]
    await eventually(lambda: is_committed(one_partition, 3))
    assert worker.running


async def test_no_offset_is_committed_before_kafka_has_the_minutes_of_its_record(
    one_partition: Settings, producer: AIOKafkaProducer, worker: ChildProcess
):
    # its minute is larger than a record of Kafka may be, so it is refused after the frame was delivered
    await send(producer, one_partition, b"ok 1", b"ok heavy", b"ok 2")
    assert await ends(worker, 3) == [EXIT_UNEXPECTED] * 3
    worker.start()
    [letter] = await dead_letters(one_partition, 1)
    assert (letter["stage"], letter["reason"]) == ("echo", "quarantined")
    assert base64.b64decode(letter["original"]) == b"ok heavy"
    await eventually(lambda: is_committed(one_partition, 3))
    assert worker.running


async def test_a_server_that_is_away_sets_no_record_aside(
    one_partition: Settings, producer: AIOKafkaProducer, worker: ChildProcess, healed: Path
):
    await send(producer, one_partition, b"away", b"ok 1")
    assert await ends(worker, 4) == [EXIT_TEMPORARY] * 4
    await asyncio.to_thread(healed.touch)
    worker.start()
    assert await delivered(one_partition, b"ok 1") == [b"away", b"ok 1"]


async def test_a_kill_while_a_record_waits_for_a_server_sets_it_not_aside(
    one_partition: Settings, producer: AIOKafkaProducer, worker: ChildProcess, healed: Path
):
    await send(producer, one_partition, b"wait", b"ok 1")
    for _ in range(3):
        before = worker.log_file.read_text().count("waiting")
        await eventually(lambda before=before: worker.log_file.read_text().count("waiting") > before, 60)
        worker.kill()
        worker.start()
    await asyncio.to_thread(healed.touch)
    assert await delivered(one_partition, b"ok 1") == [b"wait", b"ok 1"]


STRANGE_KEYS = (
    b'"x"',
    b'{"0": 1}',
    b"[[[]], [60.0, 119.9]]",
    b'["0"]',
    b'["x", [60.0, 119.9]]',
    b'["0", ["a", 1]]',
    b'["0", [1e300, 1e300]]',
    b"null",
    b"\xff no JSON",
)


async def test_keys_of_a_changelog_that_no_stage_wrote_cost_their_values_only(
    one_partition: Settings, producer: AIOKafkaProducer, worker: ChildProcess
):
    await send(producer, one_partition, b"ok 1")
    assert await delivered(one_partition, b"ok 1") == [b"ok 1"]
    worker.stop()
    changelog = f"{one_partition.name('echo')}-echo_minutes-changelog"
    for key in STRANGE_KEYS:
        await producer.send_and_wait(changelog, b"strange", key=key, partition=0)
    worker.start()
    await send(producer, one_partition, b"ok 2")
    assert (await delivered(one_partition, b"ok 2"))[-1] == b"ok 2"
    assert "restored 0" in worker.log_file.read_text()


async def test_what_a_worker_taken_for_dead_writes_late_does_not_replace_what_came_since(
    one_partition: Settings, producer: AIOKafkaProducer, worker: ChildProcess
):
    await send(producer, one_partition, b"ok 1", b"ok 2")
    assert await delivered(one_partition, b"ok 2") == [b"ok 1", b"ok 2"]
    worker.stop()
    changelog = f"{one_partition.name('echo')}-echo_minutes-changelog"
    [early, _] = await read_until(one_partition, changelog, lambda found: len(found) == 2)
    await producer.send_and_wait(changelog, early.value, key=early.key, partition=0)
    worker.start()
    await send(producer, one_partition, b"ok 3")
    assert (await delivered(one_partition, b"ok 3"))[-1] == b"ok 3"
    assert f"{b'ok 3'!r} follows {b'ok 2'!r}" in worker.log_file.read_text()
