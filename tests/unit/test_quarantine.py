"""What is noted of a record outlives the process that worked on it, and only what its own code did counts."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psycopg
import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from faust.exceptions import ProducerSendError
from redis.exceptions import ConnectionError as RedisConnectionError

from app.errors import ServerUnreachable
from app.process.attempt_records import Record
from app.process.faust_worker.worker import fault_of
from app.process.quarantine import ENDS, Attempts, is_outage
from app.telemetry import pipeline_metrics
from tests.support.metric_values import UNREAD

POISON = Record("topic/0", 7, 1_000)


def dies_at(data_dir: Path, *offsets: int) -> None:
    """A process that is killed while it works on these."""
    child = os.fork()
    if not child:
        with opened(data_dir).watch(*(Record("topic/0", offset, 1_000) for offset in offsets)):
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def opened(data_dir: Path) -> Attempts:
    attempts = Attempts(data_dir, "stage", pipeline_metrics(UNREAD))
    attempts.open()
    return attempts


def test_the_third_kill_at_a_record_sets_it_aside(tmp_path: Path):
    for ends in range(ENDS):
        attempts = opened(tmp_path)
        assert attempts.verdict(POISON) is None, ends
        attempts.close()
        dies_at(tmp_path, POISON.offset)
    verdict = opened(tmp_path).verdict(POISON)
    assert verdict is not None
    assert verdict.ends == ENDS


def test_another_record_in_the_same_place_is_not_set_aside(tmp_path: Path):
    for _ in range(ENDS):
        dies_at(tmp_path, POISON.offset)
    assert opened(tmp_path).verdict(Record("topic/0", 7, 2_000)) is None


def test_a_record_that_is_done_with_begins_at_zero(tmp_path: Path):
    for _ in range(ENDS - 1):
        dies_at(tmp_path, POISON.offset)
    attempts = opened(tmp_path)
    attempts.done(POISON)
    attempts.close()
    dies_at(tmp_path, POISON.offset)
    assert opened(tmp_path).verdict(POISON) is None


def test_a_record_set_aside_stays_so_however_often_it_is_read(tmp_path: Path):
    for _ in range(ENDS):
        dies_at(tmp_path, POISON.offset)
    attempts = opened(tmp_path)
    attempts.done(POISON)
    assert attempts.verdict(POISON)


def test_records_of_a_batch_are_suspect_and_the_one_that_ends_it_again_is_set_aside_at_the_third(
    tmp_path: Path,
):
    dies_at(tmp_path, 5, 6, 7, 8)
    attempts = opened(tmp_path)
    assert [offset for offset in range(3, 11) if attempts.is_suspect(Record("topic/0", offset))] == [
        5,
        6,
        7,
        8,
    ]
    attempts.done(Record("topic/0", 6, 1_000))
    attempts.close()
    for _ in range(ENDS - 1):
        assert opened(tmp_path).verdict(POISON) is None
        dies_at(tmp_path, POISON.offset)
    assert opened(tmp_path).verdict(POISON)
    assert opened(tmp_path).verdict(Record("topic/0", 5, 1_000)) is None


def test_suspects_that_are_passed_are_none_any_more(tmp_path: Path):
    dies_at(tmp_path, 5, 8)
    attempts = opened(tmp_path)
    attempts.done(Record("topic/0", 8, 1_000))
    assert not attempts.is_suspect(Record("topic/0", 6))


def test_two_processes_count_together(tmp_path: Path):
    held = opened(tmp_path)
    for _ in range(ENDS):
        dies_at(tmp_path, POISON.offset)
    assert opened(tmp_path).verdict(POISON)
    held.close()


async def test_only_the_records_own_code_is_noted_not_its_waiting(tmp_path: Path):
    attempts = opened(tmp_path)
    note = tmp_path / "attempts" / "stage.0.note"
    seen: dict[str, bool] = {}
    begun, go_on = asyncio.Event(), asyncio.Event()

    def noted() -> bool:
        return b"topic/0" in note.read_bytes() and note.read_bytes()[:4] != bytes(4)

    async def work() -> str:
        seen["before"] = noted()
        begun.set()
        await go_on.wait()
        seen["after"] = noted()
        return "done"

    async def attempt() -> str:
        return await attempts.watched(work(), POISON)

    task = asyncio.create_task(attempt())
    await begun.wait()
    seen["while waiting"] = noted()
    go_on.set()
    assert await task == "done"
    seen["at the end"] = noted()
    assert seen == {"before": True, "while waiting": False, "after": True, "at the end": False}


async def test_a_cancellation_reaches_what_is_watched_and_leaves_no_note(tmp_path: Path):
    attempts = opened(tmp_path)
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def attempt() -> None:
        await attempts.watched(work(), POISON)

    task = asyncio.create_task(attempt())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()
    attempts.close()
    assert opened(tmp_path).verdict(POISON) is None


def test_an_exception_counts_with_its_traceback(tmp_path: Path):
    for _ in range(ENDS):
        attempts = opened(tmp_path)
        try:
            raise RuntimeError("what it was")
        except RuntimeError as error:
            attempts.failed(error, POISON)
        attempts.close()
    verdict = opened(tmp_path).verdict(POISON)
    assert verdict is not None
    assert "what it was" in str(verdict.bad_input())
    assert "Traceback" in verdict.said


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"ends":[[1]],"suspects":{}}', b'{"ends":[],"suspects":{"a":3}}']
)
def test_a_damaged_file_of_ends_begins_anew(tmp_path: Path, damage: bytes):
    for _ in range(ENDS):
        dies_at(tmp_path, POISON.offset)
    (tmp_path / "attempts" / "stage.ends.json").write_bytes(damage)
    assert opened(tmp_path).verdict(POISON) is None
    for _ in range(ENDS):
        dies_at(tmp_path, POISON.offset)
    assert opened(tmp_path).verdict(POISON)


@pytest.mark.parametrize("length", [1, 2**31, 60_000])
def test_a_damaged_note_counts_nothing(tmp_path: Path, length: int):
    opened(tmp_path).close()
    (tmp_path / "attempts" / "stage.0.note").write_bytes(length.to_bytes(4) + os.urandom(1_000))
    assert opened(tmp_path).verdict(POISON) is None


def test_a_directory_that_cannot_be_written_holds_nothing_up(tmp_path: Path):
    (tmp_path / "attempts").write_bytes(b"a file is in the way")
    attempts = opened(tmp_path)
    with attempts.watch(POISON):
        assert attempts.verdict(POISON) is None
    attempts.failed(RuntimeError(), POISON)
    attempts.done(POISON)


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (KafkaConnectionError(), True),
        (RedisConnectionError(), True),
        (psycopg.OperationalError(), True),
        (psycopg.errors.UndefinedTable(), True),
        (ServerUnreachable("x"), True),
        (psycopg.DataError(), False),
        (MessageSizeTooLargeError(), False),
        (MemoryError(), False),
        (KeyError("x"), False),
        (RecursionError(), False),
    ],
)
def test_an_error_of_a_server_is_no_records_fault(error: Exception, outage: bool):
    assert is_outage(error) is outage


def test_a_send_that_a_server_failed_is_no_records_fault():
    sent = ProducerSendError("send failed")
    sent.__cause__ = KafkaConnectionError()
    assert is_outage(fault_of(sent))
    sent.__cause__ = MessageSizeTooLargeError()
    assert not is_outage(fault_of(sent))
    assert fault_of(ProducerSendError("send failed")).__cause__ is None
