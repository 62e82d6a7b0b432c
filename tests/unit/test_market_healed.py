"""After a minute that the exchange never had, indicators of long timeframes go on from the exchange's own bars.

The bars hold what the missing minutes held; the windows that span them stay null.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.candles.batch import CandleBatch, concatenate
from app.market.matrix import MarketMatrix
from app.market.metrics import MetricsBatch
from app.market.rings.packing import unpack_minute
from tests.support.market_batches import Row, batch_of
from tests.support.market_model import random_minute
from tests.support.market_oracle import MINUTES, Minute
from tests.unit.test_market_warm_up import BARS, MIDNIGHT, assert_equal, bars_of, expected_last

LONG = ("15m", "1h", "4h", "1d")


def whole_history(n: int) -> tuple[list[Minute], list[Minute]]:
    """Minutes before midnight for `BARS` bars, or bars themselves where those would be too many; minutes after it."""
    rng = np.random.default_rng(n)
    past = [random_minute(rng) for _ in range(BARS * n if n < 240 else BARS)]
    return past, [random_minute(rng) for _ in range(3 * n + 7)]


def all_bars(n: int, past: list[Minute], minutes: list[Minute]) -> tuple[CandleBatch, CandleBatch]:
    """The exchange's own closed bars, to the last whole one; and those before midnight."""
    early = (
        bars_of("AAA", n, MIDNIGHT - BARS * n, past)
        if n < 240
        else batch_of([("AAA", MIDNIGHT - (BARS - k) * n, bar, True) for k, bar in enumerate(past)])
    )
    late = bars_of("AAA", n, MIDNIGHT, minutes)
    return concatenate([early, late]), early


def same(matrix: MarketMatrix, _: list[Row]) -> MarketMatrix:
    return matrix


def restarted(matrix: MarketMatrix, rows: list[Row]) -> MarketMatrix:
    """As the calculator does it: the states of the indicators, and the packed minutes."""
    again = MarketMatrix()
    again.restore_indicators(matrix.indicator_snapshot())
    for minute in sorted({minute for _, minute, _, _ in rows})[-1500:]:
        again.restore_minutes(unpack_minute(matrix.pack_minute(minute * 60_000)))
    return again


@pytest.mark.parametrize("between", [same, restarted])
@pytest.mark.parametrize("place", ["first", "middle", "last", "over the border"])
@pytest.mark.parametrize("timeframe", LONG)
def test_values_equal_ta_lib_on_the_exchanges_bars(
    timeframe: str, place: str, between: Callable[[MarketMatrix, list[Row]], MarketMatrix]
) -> None:
    n = MINUTES[timeframe]
    past, minutes = whole_history(n)
    missing = {
        "first": {0}, "middle": {n // 2}, "last": {n - 1}, "over the border": {n - 2, n - 1, n, n + 1},
    }[place]  # fmt: skip
    bars, early = all_bars(n, past, minutes)
    rows: list[Row] = [
        ("AAA", MIDNIGHT + i, minute, True) for i, minute in enumerate(minutes) if i not in missing
    ]
    # the bars that held the minutes are over, and a part of the next one has passed
    over = (max(missing) // n + 1) * n
    heard = [row for row in rows if row[1] < MIDNIGHT + over + 3]
    rest = [row for row in rows if row[1] >= MIDNIGHT + over + 3]

    matrix = MarketMatrix()
    matrix.warm_up_bars(timeframe, early)
    matrix.update(batch_of(heard))
    broken = matrix.update(batch_of(rest[:1]))
    assert np.isnan(broken.values[-1, broken.columns.index(f"rsi_14_{timeframe}")])
    matrix.warm_up_bars(timeframe, bars.take(bars.open_time_ms < (MIDNIGHT + over) * 60_000))
    matrix = between(matrix, heard + rest[:1])
    # to the end of the bar that follows
    last = [row for row in rest[1:] if row[1] < MIDNIGHT + over + n]
    metrics = matrix.update(batch_of(last))
    assert_equal(metrics, timeframe, expected_last(n, early, minutes[: over + n]))
    assert_windows_null(metrics, timeframe, MIDNIGHT + max(missing))

    # and on, over another restart
    matrix = between(matrix, rows)
    further = [row for row in rest[1:] if MIDNIGHT + over + n <= row[1] < MIDNIGHT + over + 2 * n]
    whole = len(further) // n * n
    if whole:
        metrics = matrix.update(batch_of(further[:whole]))
        assert_equal(metrics, timeframe, expected_last(n, early, minutes[: over + 2 * n]))


def assert_windows_null(metrics: MetricsBatch, timeframe: str, missing: int) -> None:
    """The window of a day still holds the minute, whatever was healed."""
    newest = int(metrics.open_time_ms[-1]) // 60_000
    if newest - missing < 1_440:
        assert np.isnan(metrics.values[-1, metrics.columns.index("quote_volume_1d")])
        assert metrics.values[-1, metrics.columns.index("coverage_1d")] < 1.0


def cloud_of(bars: dict[int, tuple[float, float]], current: int) -> dict[str, float]:
    """Ichimoku by its definition, of bars of 15m (number -> high, low); NaN where one is missing."""

    def middle(last: int, bars_back: int) -> float:
        part = [bars.get(number) for number in range(last - bars_back + 1, last + 1)]
        known = [one for one in part if one is not None]
        if len(known) < bars_back:
            return np.nan
        return (max(high for high, _ in known) + min(low for _, low in known)) / 2

    before = current - 26
    return {
        "conversion": middle(current, 9),
        "base": middle(current, 26),
        "span_a": (middle(before, 9) + middle(before, 26)) / 2,
        "span_b": middle(before, 52),
    }


def found_cloud(metrics: MetricsBatch) -> dict[str, float]:
    parts = ("conversion", "base", "span_a", "span_b")
    return {part: float(metrics.values[-1, metrics.columns.index(f"ichimoku_{part}_15m")]) for part in parts}


@settings(max_examples=10, deadline=None)
@given(
    missing=st.sets(st.integers(0, 1_439), min_size=1, max_size=20),
    untold=st.sets(st.integers(0, 95), max_size=1),
    between=st.sampled_from([same, restarted]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_cloud_goes_on_from_the_exchanges_own_bars(
    missing: set[int],
    untold: set[int],
    between: Callable[[MarketMatrix, list[Row]], MarketMatrix],
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    minutes = [random_minute(rng) for _ in range(1_440 + 30)]
    rows: list[Row] = [
        ("AAA", MIDNIGHT + i, minute, True) for i, minute in enumerate(minutes[:1_440]) if i not in missing
    ]
    told = bars_of("AAA", 15, MIDNIGHT, minutes[:1_440])
    first = MIDNIGHT // 15
    matrix = MarketMatrix()
    matrix.update(batch_of(rows))
    # where the exchange lacks a bar too, nothing is taken of the bars before it
    matrix.warm_up_bars("15m", told.take(np.array([number not in untold for number in range(96)])))
    matrix = between(matrix, rows)

    known = {
        first + number: (float(told.high[number]), float(told.low[number]))
        for number in range(96)
        if number > max(untold, default=-1) or not any(minute // 15 == number for minute in missing)
    }
    for i, minute in enumerate(minutes[1_440:]):
        metrics = matrix.update(batch_of([("AAA", MIDNIGHT + 1_440 + i, minute, True)]))
        current = first + 96 + i // 15
        high, low = known.get(current, (minute.high, minute.low))
        known[current] = max(high, minute.high), min(low, minute.low)
        assert found_cloud(metrics) == pytest.approx(cloud_of(known, current), rel=1e-12, nan_ok=True)
