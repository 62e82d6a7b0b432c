"""Known minutes against a plain dictionary: any order of arrival, repeats, corrections, gaps, cuts, restarts."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from app.candles.batch import MINUTE_MS
from app.candles.known_minutes import Accepted, Gap, KnownMinutes
from tests.support.candle_batches import Candle, batch_of, rows_of

CAPACITY = 12
FIRST = 28_000_000
"""A minute of 2023."""

candles = st.builds(
    Candle,
    symbol=st.sampled_from(["AAA", "BBB", "CCC"]),
    minute=st.integers(0, 30).map(FIRST.__add__),
    price=st.sampled_from([10.0, 11.0]),
    closed=st.sampled_from([True, True, False]),
)
arrivals = st.lists(st.lists(candles, min_size=1, max_size=12), max_size=8)


@dataclass
class Expected:
    passed: list[Candle] = field(default_factory=list)
    duplicates: int = 0
    corrections: int = 0
    stale_forming: int = 0
    late: int = 0
    gaps: list[Gap] = field(default_factory=list)


class Model:
    """The closed candle of every (symbol, minute) within CAPACITY of the symbol's newest."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, int], float] = {}
        self.newest: dict[str, int] = {}

    def accept(self, rows: list[Candle]) -> Expected:
        before = dict(self.newest)
        closed = [row for row in rows if row.closed]
        for row in closed:
            self.newest[row.symbol] = max(row.minute, self.newest.get(row.symbol, 0))
        self.known = {key: price for key, price in self.known.items() if self.reached(*key)}
        found = Expected()
        for row in closed:
            self._take(row, before, found)
        for row in rows:
            if not row.closed:
                if (row.symbol, row.minute) in self.known:
                    found.stale_forming += 1
                else:
                    found.passed.append(row)
        order = {id(row): at for at, row in enumerate(rows)}
        found.passed.sort(key=lambda row: (row.minute, order[id(row)]))
        for symbol in {row.symbol for row in closed}:
            self._find_gaps(
                symbol, before.get(symbol), {row.minute for row in closed if row.symbol == symbol}, found
            )
        return found

    def reached(self, symbol: str, minute: int) -> bool:
        return minute > self.newest[symbol] - CAPACITY

    def _take(self, row: Candle, before: dict[str, int], found: Expected) -> None:
        key = (row.symbol, row.minute)
        if self.known.get(key) == row.price:
            found.duplicates += 1
            return
        found.passed.append(row)
        if key in self.known:
            found.corrections += 1
        elif row.minute < before.get(row.symbol, 0):
            found.late += 1
        if self.reached(*key):
            self.known[key] = row.price

    def _find_gaps(self, symbol: str, newest: int | None, minutes: set[int], found: Expected) -> None:
        first = min(minutes) if newest is None else newest
        missing = sorted(set(range(first + 1, self.newest[symbol])) - minutes)
        while missing:
            run = 1
            while run < len(missing) and missing[run] == missing[0] + run:
                run += 1
            found.gaps.append(Gap(symbol, missing[0] * MINUTE_MS, missing[run - 1] * MINUTE_MS))
            del missing[:run]


def numbered(batches: list[list[Candle]]) -> list[list[Candle]]:
    """Each row with a number of its own as ingest time, so that equal rows are told apart."""
    numbers = iter(range(1_000_000))
    return [[replace(row, ingest_ts_ms=next(numbers)) for row in rows] for rows in batches]


def agree(got: Accepted, expected: Expected) -> None:
    assert rows_of(got.batch) == expected.passed
    assert got.closed_minutes_ms.tolist() == sorted(
        {row.minute * MINUTE_MS for row in expected.passed if row.closed}
    )
    counts = (got.duplicates, got.corrections, got.stale_forming, got.late)
    assert counts == (expected.duplicates, expected.corrections, expected.stale_forming, expected.late)
    by_place = lambda gap: (gap.symbol, gap.first_ms)  # noqa: E731
    assert sorted(got.gaps, key=by_place) == sorted(expected.gaps, key=by_place)


@given(arrivals)
def test_any_arrival_is_told_apart_as_a_dictionary_would(batches: list[list[Candle]]):
    known, model = KnownMinutes(CAPACITY), Model()
    for rows in numbered(batches):
        agree(known.accept(batch_of(rows)), model.accept(rows))


@given(arrivals, st.integers(0, 7), st.randoms(use_true_random=False))
def test_a_restart_from_the_packed_minutes_changes_nothing(
    batches: list[list[Candle]], restart_at: int, shuffler: random.Random
):
    known, model = KnownMinutes(CAPACITY), Model()
    table: dict[int, bytes] = {}
    for at, rows in enumerate(numbered(batches)):
        if at == restart_at:
            known = KnownMinutes(CAPACITY)
            stored = list(table.items())
            shuffler.shuffle(stored)
            for open_time_ms, packed in stored + stored[:3]:
                known.load_minute(open_time_ms, packed)
        accepted = known.accept(batch_of(rows))
        agree(accepted, model.accept(rows))
        for open_time_ms in accepted.closed_minutes_ms.tolist():
            table[open_time_ms] = known.pack_minute(open_time_ms)


@given(arrivals)
def test_missing_minutes_are_those_between_the_oldest_and_the_newest_known(batches: list[list[Candle]]):
    known, model = KnownMinutes(CAPACITY), Model()
    for rows in batches:
        known.accept(batch_of(rows))
        model.accept(rows)
    for symbol, newest in model.newest.items():
        minutes = [minute for name, minute in model.known if name == symbol]
        assert known.missing_minutes(symbol) == newest - min(minutes) + 1 - len(minutes)


@given(st.permutations(range(10)), st.integers(1, 10))
def test_in_any_order_and_cut_anywhere_every_minute_passes_once(minutes: list[int], cut: int):
    known = KnownMinutes(CAPACITY)
    rows = [Candle("AAA", FIRST + minute) for minute in minutes]
    passed = [
        row.minute
        for part in (rows[:cut], rows[cut:], rows)
        if part
        for row in rows_of(known.accept(batch_of(part)).batch)
    ]
    assert sorted(passed) == [FIRST + minute for minute in range(10)]
    assert known.missing_minutes("AAA") == 0
