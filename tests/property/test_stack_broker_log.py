"""A partition log equals a plain list of records, whatever is appended, dropped and read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from app.local.broker.log import CorruptBatchError, PartitionLog
from app.local.broker.segments import SEGMENT_BYTES, Segments
from tests.support.kafka_batches import batch_of, records_in


class LogMachine(RuleBasedStateMachine):
    """`kept` is the model: all records still there, with offsets; `batches` the sizes they came in."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.log = PartitionLog(Segments(Path(self.directory.name)))
        self.kept: list[tuple[int, bytes, int]] = []
        self.batches: list[int] = []
        self.next_offset = 0
        self.clock_ms = 0

    @rule(values=st.lists(st.binary(max_size=20), min_size=1, max_size=5))
    def append(self, values: list[bytes]) -> None:
        assert self.log.append(batch_of(values, self.clock_ms), now_ms=0) == self.next_offset
        for number, value in enumerate(values):
            self.kept.append((self.next_offset + number, value, self.clock_ms + number))
        self.batches.append(len(values))
        self.next_offset += len(values)
        self.clock_ms += 10

    @rule()
    def drop_the_oldest(self) -> None:
        freed = self.log.drop_oldest()
        assert (freed > 0) == bool(self.batches)
        if self.batches:
            end = self.next_offset - sum(self.batches[1:])
            self.kept = [record for record in self.kept if record[0] >= end]
            del self.batches[0]

    @rule(share=st.floats(0, 1))
    def drop_before(self, share: float) -> None:
        first = self.kept[0][0] if self.kept else self.next_offset
        offset = first + round(share * (self.next_offset - first))
        self.log.drop_before(offset)
        self.kept = [record for record in self.kept if record[0] >= offset]
        while self.batches and self.next_offset - sum(self.batches[1:]) <= offset:
            del self.batches[0]

    @rule(share=st.floats(0, 1), max_bytes=st.integers(1, 2000))
    def read(self, share: float, max_bytes: int) -> None:
        first = self.kept[0][0] if self.kept else self.next_offset
        offset = first + round(share * (self.next_offset - first))
        data = self.log.read(offset, max_bytes)
        wanted = [record for record in self.kept if record[0] >= offset]
        found = [record for record in records_in(data) if record[0] >= offset]
        assert found == wanted[: len(found)]
        assert bool(found) == bool(wanted)

    @rule(timestamp_ms=st.integers(0, 300))
    def find_by_time(self, timestamp_ms: int) -> None:
        expected = next(((o, t) for o, _, t in self.kept if t >= timestamp_ms), None)
        assert self.log.offset_at(timestamp_ms) == expected

    def teardown(self) -> None:
        self.directory.cleanup()

    @invariant()
    def it_knows_its_bounds(self) -> None:
        assert self.log.end_offset == self.next_offset
        assert self.log.start_offset == (self.kept[0][0] if self.kept else self.log.end_offset)
        assert (self.log.size_bytes > 0) == bool(self.batches)


LogMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_a_log_behaves_as_a_list_of_records = LogMachine.TestCase


def test_a_long_log_that_is_always_cut_stays_readable() -> None:
    log = PartitionLog()
    for number in range(5_000):
        log.append(batch_of([b"%d" % number]), now_ms=number)
        if number >= 10:
            log.drop_oldest()
    assert [value for _, value, _ in records_in(log.read(log.start_offset, 1 << 20))] == [
        b"%d" % number for number in range(4_990, 5_000)
    ]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:30],
        lambda data: data + b"\x00",
        lambda data: data[:16] + b"\x01" + data[17:],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    ],
    ids=["empty", "cut off", "cut in the header", "too long", "old magic", "one bit changed"],
)
def test_a_spoiled_batch_is_refused_and_leaves_the_log_as_it_was(spoil: Callable[[bytes], bytes]) -> None:
    log = PartitionLog()
    log.append(batch_of([b"before"]), now_ms=0)
    with pytest.raises(CorruptBatchError):
        log.append(spoil(batch_of([b"value"])), now_ms=0)
    assert log.end_offset == 1


COMPACTED_BATCH = 100_000


@settings(max_examples=40, deadline=None)
@given(
    keys=st.lists(st.sampled_from([b"a", b"b", b"c", None]), min_size=1, max_size=60), share=st.floats(0, 1)
)
def test_compaction_keeps_the_last_record_of_every_key_in_order(
    keys: list[bytes | None], share: float
) -> None:
    log = PartitionLog(compacts=True)
    for number, key in enumerate(keys):
        log.append(batch_of([b"%d" % number + bytes(COMPACTED_BATCH)], key=key), now_ms=0)
    before = log.size_bytes
    log.compact()
    last = {key: number for number, key in enumerate(keys)}
    needed = {number for number, key in enumerate(keys) if key is None or last[key] == number}
    start = round(share * len(keys))
    found = [offset for offset, *_ in records_in(log.read(start, 1 << 30)) if offset >= start]
    assert found == sorted(found)
    if before >= 2**20:
        assert found == [number for number in sorted(needed) if number >= start]
    else:
        assert found == list(range(start, len(keys)))
    assert log.end_offset == len(keys)
    assert log.append(batch_of([b"next"]), now_ms=0) == len(keys)


def test_a_log_that_is_rewritten_over_and_over_stays_small() -> None:
    log = PartitionLog(compacts=True)
    for number in range(400):
        log.append(batch_of([bytes(20_000)], key=b"%d" % (number % 4)), now_ms=0)
        log.compact()
    assert log.size_bytes < 2_000_000
    newest = records_in(log.read(0, 1 << 30))[-4:]
    assert [offset for offset, *_ in newest] == [396, 397, 398, 399]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts the open files of Linux")
def test_files_go_with_their_records(tmp_path: Path) -> None:
    before = open_files()
    log = PartitionLog(Segments(tmp_path))
    batch = batch_of([bytes(SEGMENT_BYTES // 2)])
    for _ in range(10):
        log.append(batch, now_ms=0)
    assert os.listdir(tmp_path) == []
    assert open_files() - before == 5
    for _ in range(8):
        log.drop_oldest()
    assert open_files() - before == 1
    del log
    assert open_files() == before


def test_records_stay_in_memory_where_no_file_can_be_written(tmp_path: Path) -> None:
    log = PartitionLog(Segments(tmp_path / "gone"))
    log.append(batch_of([b"value"]), now_ms=0)
    assert [value for _, value, _ in records_in(log.read(0, 1000))] == [b"value"]
