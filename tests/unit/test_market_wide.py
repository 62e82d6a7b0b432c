"""The parts of the market role that need no server: who reads, what is on [market], and what a start makes of it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from app.errors import BadFrame
from app.market.metrics import MetricsBatch
from app.market_wide.fences import fence_frame
from app.market_wide.kept import _collect
from app.market_wide.one_reader import one_reader
from app.wire.frames import decode_candles, decode_metrics, encode_metrics, is_empty
from app.wire.market_minutes import (
    POSITION_KEY,
    MinuteReader,
    Position,
    memory_records,
    minute_records,
)
from tests.support.metric_batches import metrics_batch

START_MS = 28_000_000 * 60_000


def minute(at: int, symbols: tuple[str, ...] = ("AUSDT", "BUSDT")) -> MetricsBatch:
    return metrics_batch([(symbol, START_MS + at * 60_000, {"close_1m": float(at)}) for symbol in symbols])


def test_the_process_that_has_run_longest_reads_all_partitions_and_the_others_stand_by():
    members = {
        name: one_reader(began_ms).metadata(["metrics"])
        for name, began_ms in (("member-b", 5_000), ("member-a", 9_000), ("member-c", 7_000))
    }
    cluster = SimpleNamespace(partitions_for_topic=lambda _: {2, 0, 1})
    assigned = one_reader(1).assign(cluster, members)
    assert assigned["member-b"].assignment == [("metrics", [0, 1, 2])]
    assert assigned["member-a"].assignment == assigned["member-c"].assignment == []


def test_a_fence_is_a_frame_without_rows_that_readers_of_candles_and_metrics_can_read():
    batch, info = decode_candles(fence_frame("ab" * 16))
    assert is_empty(batch, info)
    assert info.frame_id == "ab" * 16
    passed_on, info = decode_metrics(encode_metrics(MetricsBatch.empty(), info))
    assert len(passed_on) == 0
    assert info.frame_id == "ab" * 16


def test_a_minute_of_many_symbols_is_read_as_it_was_written():
    symbols = tuple(f"S{number}USDT" for number in range(9_001))
    rows = metrics_batch([(symbol, START_MS, {"close_1m": 1.0}) for symbol in symbols], ("close_1m",))
    records = minute_records(rows)
    assert [key for key, _ in records] == [b"minute:0/3", b"minute:1/3", b"minute:2/3"]
    reader = MinuteReader()
    found = [reader.take(key, value) for key, value in records]
    assert found[:2] == [None, None]
    assert found[2] is not None
    assert sum(map(len, found[2])) == len(symbols)


def test_parts_of_a_minute_that_was_never_finished_are_dropped():
    symbols = tuple(f"S{number}USDT" for number in range(4_001))
    unfinished = minute_records(metrics_batch([(symbol, START_MS, {}) for symbol in symbols], ("close_1m",)))[
        0
    ]
    reader = MinuteReader()
    assert reader.take(*unfinished) is None
    [whole] = minute_records(minute(1))
    found = reader.take(*whole)
    assert found is not None
    assert found[0].symbols == ("AUSDT", "BUSDT")


@pytest.mark.parametrize(
    "value", [b"", b"[]", b'{"sealed_ms": 1}', b'{"sealed_ms": {}, "resume": [], "read": {}}']
)
def test_a_position_that_is_none_is_refused(value: bytes):
    with pytest.raises(BadFrame):
        Position.decode(value)


async def test_a_start_continues_behind_the_memory_and_tells_done_minutes_from_sealed_ones():
    position = Position(START_MS + 2 * 60_000, {0: 5}, {0: 9}, 1)
    written = [
        *minute_records(minute(0)),
        *memory_records(b"as it was" * 2_000_000),
        *minute_records(minute(1)),
        *minute_records(minute(2)),
        (POSITION_KEY, position.encode()),
        *minute_records(minute(3)),
        # of a process that did not know yet that it is not the reader any more
        *minute_records(minute(2, ("CUSDT",))),
    ]

    async def records():
        for offset, (key, value) in enumerate(written):
            yield SimpleNamespace(topic="market", offset=offset, key=key, value=value)

    kept = await _collect(records(), Position.decode(position.encode()))
    assert kept.position == position
    assert kept.memory == b"as it was" * 2_000_000
    minutes = [int(rows.open_time_ms[0]) for rows in kept.minutes]
    assert minutes == [START_MS + at * 60_000 for at in (1, 2, 3)]
    assert kept.minutes[1].symbols == ("AUSDT", "BUSDT")
    assert kept.last is not None
    np.testing.assert_array_equal(kept.last.open_time_ms, kept.minutes[-1].open_time_ms)
