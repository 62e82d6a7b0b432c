"""Sealing against a plain reading of its definition: any number of shards, any timing, gaps, new and silent symbols,
late rows, restarts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.candles.batch import MINUTE_MS
from app.market.metrics import MetricsBatch
from app.rules.market.sealing import Fence, SealedMinute, Sealing

FIRST_MS = 28_000_000 * MINUTE_MS
GRACE_MS = 3_000
SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE")


@dataclass(frozen=True)
class Row:
    symbol: str
    minute: int
    closed: bool
    value: float

    @property
    def event_ts_ms(self) -> int:
        """A forming row comes ten seconds into its minute, a closed one at its end."""
        return FIRST_MS + self.minute * MINUTE_MS + (MINUTE_MS if self.closed else 10_000)


@st.composite
def markets(draw: st.DrawFn) -> list[Row]:
    """Rows in order of event time, as the pipeline carries them; any candle may be missing."""
    rows = [
        Row(symbol, minute, closed, draw(st.sampled_from([1.0, 2.0, 3.0])))
        for minute in range(draw(st.integers(1, 7)))
        for closed in ((False, True) if draw(st.booleans()) else (True,))
        for symbol in draw(st.lists(st.sampled_from(SYMBOLS), unique=True, max_size=5))
    ]
    return sorted(rows, key=lambda row: row.event_ts_ms)


def frame(rows: list[Row]) -> MetricsBatch:
    symbols = tuple(dict.fromkeys(row.symbol for row in rows))
    return MetricsBatch(
        symbols=symbols,
        symbol_index=np.array([symbols.index(row.symbol) for row in rows], np.int32),
        open_time_ms=np.array([FIRST_MS + row.minute * MINUTE_MS for row in rows], np.int64),
        closed=np.array([row.closed for row in rows], np.bool_),
        event_ts_ms=np.array([row.event_ts_ms for row in rows], np.int64),
        ingest_ts_ms=np.array([row.event_ts_ms for row in rows], np.int64),
        values=np.array([[row.value] for row in rows]).reshape(len(rows), 1),
        columns=("close_1m",),
    )


def expected(rows: list[Row]) -> dict[int, dict[str, float]]:
    """Minute -> symbol -> value, of the minutes that are sealed, by the words of the definition."""
    closed: dict[int, dict[str, float]] = {}
    for row in rows:
        if row.closed:
            closed.setdefault(row.minute, {})[row.symbol] = row.value
    newest_ms = max((row.event_ts_ms for row in rows), default=0)
    sealed: dict[int, dict[str, float]] = {}
    for minute in sorted(closed):
        passed = newest_ms >= FIRST_MS + (minute + 1) * MINUTE_MS + GRACE_MS
        delivered = minute - 1 in sealed and sealed[minute - 1].keys() <= closed[minute].keys()
        if passed or delivered:
            sealed[minute] = closed[minute]
    return sealed


def seen(minute: SealedMinute) -> tuple[int, dict[str, float]]:
    at = (minute.open_time_ms - FIRST_MS) // MINUTE_MS
    return at, dict(zip(minute.rows.symbols, minute.rows.values[:, 0].tolist(), strict=True))


class Pipeline:
    """The stages before: the shards' records, and fences behind what was under way when they were sent."""

    def __init__(self, rows: list[Row], shards: int, rows_per_record: int) -> None:
        self.records: list[list[MetricsBatch]] = []
        for shard in range(shards):
            mine = [row for row in rows if crc32(row.symbol.encode()) % shards == shard]
            starts = range(0, len(mine), rows_per_record)
            self.records.append([frame(mine[start : start + rows_per_record]) for start in starts])
        self.read = [0] * shards
        self.fences: dict[int, Fence] = {}

    def choices(self) -> list[int]:
        """Shards that have something to deliver: a record, or a fence behind the last one."""
        return [
            shard
            for shard, records in enumerate(self.records)
            if self.read[shard] < len(records) or shard in self.fences
        ]

    def deliver(self, shard: int, sealing: Sealing) -> None:
        at = self.read[shard]
        if at < len(self.records[shard]):
            sealing.take(shard, at, self.records[shard][at])
            self.read[shard] += 1
        else:
            sealing.passed(shard, self.fences.pop(shard))


class KilledBridge(Pipeline):
    """A bridge was killed before it acknowledged some of the rows: they are read again behind all others. A fence that
    has no place in the stream of candles comes before them, any other behind them."""

    def __init__(self, rows: list[Row], again: list[Row], shards: int) -> None:
        super().__init__([row for row in rows if row not in again], shards, 2)
        self.before = list(map(len, self.records))
        for shard, records in enumerate(Pipeline(again, shards, 2).records):
            self.records[shard] += records

    def deliver(self, shard: int, sealing: Sealing) -> None:
        fence = self.fences.get(shard)
        if fence is not None and fence.event_ts_ms is None and self.read[shard] >= self.before[shard]:
            sealing.passed(shard, self.fences.pop(shard))
        else:
            super().deliver(shard, sealing)


def play(pipeline: Pipeline, pick: Callable[[int], int], restart_after: int = -1) -> list[SealedMinute]:
    """Deliver all in an order that `pick` chooses; start again from what is kept after so many deliveries."""
    sealing = Sealing(len(pipeline.records), GRACE_MS)
    found: list[SealedMinute] = []
    deliveries = 0
    while choices := pipeline.choices():
        pipeline.deliver(choices[pick(len(choices))], sealing)
        found += sealing.sealed()
        pipeline.fences |= sealing.fences()
        deliveries += 1
        if deliveries == restart_after:
            offsets = sealing.resume_at()
            sealing = Sealing(len(pipeline.records), GRACE_MS)
            if found:
                sealing.restore(found[-1].open_time_ms, by_shard(found[-1], len(pipeline.records)))
            pipeline.fences.clear()
            pipeline.read = [offsets[shard] for shard in range(len(pipeline.records))]
            found += sealing.sealed()
    return found


def by_shard(minute: SealedMinute, shards: int) -> Mapping[int, list[str]]:
    found: dict[int, list[str]] = {}
    for symbol in minute.rows.symbols:
        found.setdefault(crc32(symbol.encode()) % shards, []).append(symbol)
    return found


@settings(deadline=None)
@given(markets(), st.sampled_from([1, 3, 8]), st.integers(1, 6), st.data())
def test_sealed_minutes_are_those_of_the_definition_for_any_shards_and_timing(
    rows: list[Row], shards: int, rows_per_record: int, data: st.DataObject
) -> None:
    found = play(Pipeline(rows, shards, rows_per_record), lambda n: data.draw(st.integers(0, n - 1)))
    assert dict(map(seen, found)) == expected(rows)
    assert [minute.open_time_ms for minute in found] == sorted({minute.open_time_ms for minute in found})


@settings(deadline=None)
@given(markets(), st.integers(0, 30), st.integers(1, 8), st.sampled_from([1, 3, 8]), st.data())
def test_rows_that_a_killed_bridge_delivers_again_are_in_their_minutes(
    rows: list[Row], begin: int, count: int, shards: int, data: st.DataObject
) -> None:
    known = {(row.symbol, row.minute + 1) for row in rows if row.closed}
    # nobody waits for a symbol that was not known the minute before
    first = min((row.minute for row in rows), default=0)
    again = [
        row for row in rows[begin : begin + count] if row.minute == first or (row.symbol, row.minute) in known
    ]
    found = play(KilledBridge(rows, again, shards), lambda n: data.draw(st.integers(0, n - 1)))
    assert dict(map(seen, found)) == expected(rows)


@settings(deadline=None)
@given(markets(), st.sampled_from([1, 3]), st.integers(1, 30), st.data())
def test_a_restart_seals_the_same_minutes_and_none_twice(
    rows: list[Row], shards: int, restart_after: int, data: st.DataObject
) -> None:
    found = play(Pipeline(rows, shards, 2), lambda n: data.draw(st.integers(0, n - 1)), restart_after)
    assert [seen(minute) for minute in found] == sorted(expected(rows).items())


@settings(deadline=None)
@given(markets(), st.integers(0, 7))
def test_a_row_behind_the_seal_changes_nothing_and_is_counted(rows: list[Row], minute: int) -> None:
    sealing = Sealing(1, GRACE_MS)
    for offset, row in enumerate(rows):
        assert sealing.take(0, offset, frame([row])) == 0
    found, complete_ms = list(sealing.sealed()), 0
    while fences := sealing.fences():
        sealing.passed(0, fences[0])
        complete_ms = max(complete_ms, fences[0].event_ts_ms or 0)
        found += sealing.sealed()
    is_late = complete_ms >= FIRST_MS + (minute + 1) * MINUTE_MS + GRACE_MS or any(
        seen(sealed)[0] >= minute for sealed in found
    )
    assert sealing.take(0, len(rows), frame([Row("LATE", minute, True, 9.0)])) == is_late
    after = dict(map(seen, sealing.sealed()))
    assert not is_late or not any("LATE" in values for values in after.values())


def test_symbols_known_before_that_did_not_deliver_are_counted_as_missing() -> None:
    rows = [Row(symbol, 0, True, 1.0) for symbol in SYMBOLS]
    rows += [Row(symbol, 1, True, 1.0) for symbol in SYMBOLS[:2]]
    rows += [Row(symbol, 2, True, 1.0) for symbol in SYMBOLS[:2]]
    found = play(Pipeline(rows, 3, 4), lambda n: 0)
    assert [minute.missing for minute in found] == [0, 3, 0]
