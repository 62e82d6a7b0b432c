"""Indicators warmed up from bars of the interval equal TA-Lib's over those bars and the ones that follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from app.candles.batch import CandleBatch
from app.market.fields import BAR_FIELDS
from app.market.matrix import MarketMatrix
from app.market.metrics import MetricsBatch
from tests.support.market_batches import Row, batch_of
from tests.support.market_model import random_minute
from tests.support.market_oracle import MINUTES, Minute
from tests.unit.test_market_talib import talib_fields

MIDNIGHT = 26_923_680 - 26_923_680 % 1440
BARS = 120


def bars_of(symbol: str, n: int, first_minute: int, minutes: list[Minute]) -> CandleBatch:
    """Bars of n minutes over these minutes, which begin one."""
    rows: list[Row] = []
    for at in range(0, len(minutes) - n + 1, n):
        part = minutes[at : at + n]
        bar = Minute(
            part[0].open, max(m.high for m in part), min(m.low for m in part), part[-1].close,
            sum(m.volume for m in part), sum(m.quote_volume for m in part), sum(m.trades for m in part),
        )  # fmt: skip
        rows.append((symbol, first_minute + at, bar, True))
    return batch_of(rows)


def expected_last(n: int, bars: CandleBatch, minutes: list[Minute]) -> dict[str, float]:
    """TA-Lib's last values over the bars and then the whole bars of the minutes."""
    whole = len(minutes) // n * n
    followers = [minutes[at : at + n] for at in range(0, whole, n)]
    high = np.append(bars.high, [max(m.high for m in part) for part in followers])
    low = np.append(bars.low, [min(m.low for m in part) for part in followers])
    close = np.append(bars.close, [part[-1].close for part in followers])
    return {field: float(values[-1]) for field, values in talib_fields(high, low, close).items()}


def assert_equal(metrics: MetricsBatch, timeframe: str, expected: dict[str, float]) -> None:
    assert set(expected) == set(BAR_FIELDS)
    for field, value in expected.items():
        found = metrics.values[-1, metrics.columns.index(f"{field}_{timeframe}")]
        assert found == pytest.approx(value, rel=1e-9, abs=1e-9), field


def warm_then_minutes(
    matrix: MarketMatrix, timeframe: str, bars: CandleBatch, rows: list[Row]
) -> MetricsBatch:
    matrix.warm_up_bars(timeframe, bars)
    return matrix.update(batch_of(rows))


def minutes_then_warm(
    matrix: MarketMatrix, timeframe: str, bars: CandleBatch, rows: list[Row]
) -> MetricsBatch:
    matrix.update(batch_of(rows[:-1]))
    matrix.warm_up_bars(timeframe, bars)
    return matrix.update(batch_of(rows[-1:]))


def restored_then_warm(
    matrix: MarketMatrix, timeframe: str, bars: CandleBatch, rows: list[Row]
) -> MetricsBatch:
    matrix.restore_minutes(batch_of(rows[:-1]))
    matrix.warm_up_bars(timeframe, bars)
    return matrix.update(batch_of(rows[-1:]))


@pytest.mark.parametrize("order", [warm_then_minutes, minutes_then_warm, restored_then_warm])
@pytest.mark.parametrize("timeframe", [name for name in MINUTES if name != "1m"])
def test_warmed_up_values_equal_ta_lib(timeframe: str, order: Callable[..., MetricsBatch]) -> None:
    rng, n = np.random.default_rng(12), MINUTES[timeframe]
    past = [random_minute(rng) for _ in range(BARS * n)] if n < 240 else []
    if past:
        bars = bars_of("AAA", n, MIDNIGHT - BARS * n, past)
    else:  # a random minute will do for a bar
        bars = batch_of([("AAA", MIDNIGHT - (BARS - k) * n, random_minute(rng), True) for k in range(BARS)])
    minutes = [random_minute(rng) for _ in range(n if timeframe == "1d" else 2 * n)]
    rows: list[Row] = [("AAA", MIDNIGHT + i, minute, True) for i, minute in enumerate(minutes)]
    metrics = order(MarketMatrix(), timeframe, bars, rows)
    assert_equal(metrics, timeframe, expected_last(n, bars, minutes))


def test_bars_warm_several_symbols_at_once_in_any_order() -> None:
    rng = np.random.default_rng(13)
    of_symbol = {s: [random_minute(rng) for _ in range(60 * 60)] for s in ("AAA", "BBB")}
    rows: list[Row] = []
    for symbol, minutes in of_symbol.items():
        bars = bars_of(symbol, 60, MIDNIGHT - 3600, minutes)
        rows += [
            (symbol, int(bars.open_time_ms[i]) // 60_000, Minute(*(float(c[i]) for c in (
                bars.open, bars.high, bars.low, bars.close, bars.volume, bars.quote_volume)), 1), True)
            for i in range(len(bars))
        ]  # fmt: skip
    matrix = MarketMatrix()
    matrix.warm_up_bars("1h", batch_of([rows[i] for i in rng.permutation(len(rows))]))
    next_minutes = [random_minute(rng) for _ in range(60)]
    metrics = matrix.update(batch_of([("BBB", MIDNIGHT + i, m, True) for i, m in enumerate(next_minutes)]))
    bars = bars_of("BBB", 60, MIDNIGHT - 3600, of_symbol["BBB"])
    assert_equal(metrics, "1h", expected_last(60, bars, next_minutes))


def test_only_the_last_unbroken_run_of_bars_counts() -> None:
    rng = np.random.default_rng(14)
    bars = bars_of("AAA", 60, MIDNIGHT - 3600, [random_minute(rng) for _ in range(3600)])
    matrix = MarketMatrix()
    matrix.warm_up_bars("1h", bars.take(np.delete(np.arange(60), 45)))
    metrics = matrix.update(batch_of([("AAA", MIDNIGHT, random_minute(rng), True)]))
    found = dict(zip(metrics.columns, metrics.values[0].tolist(), strict=True))
    assert not np.isnan(found["rsi_14_1h"])  # fourteen bars and the current one
    assert np.isnan(found["ema_20_1h"])


def test_bars_that_end_before_a_missing_bar_are_not_used() -> None:
    rng = np.random.default_rng(15)
    bars = bars_of("AAA", 60, MIDNIGHT - 3600, [random_minute(rng) for _ in range(3600)])
    early = replace(bars, open_time_ms=bars.open_time_ms - 3_600_000)
    matrix = MarketMatrix()
    matrix.warm_up_bars("1h", early)
    metrics = matrix.update(batch_of([("AAA", MIDNIGHT, random_minute(rng), True)]))
    assert np.isnan(metrics.values[0, metrics.columns.index("rsi_14_1h")])


@pytest.mark.parametrize("timeframe", ["1m", "2h", ""])
def test_bars_of_no_warmable_timeframe_are_refused(timeframe: str) -> None:
    with pytest.raises(ValueError, match="warm up"):
        MarketMatrix().warm_up_bars(timeframe, batch_of([("A", 0, Minute(1, 1, 1, 1, 1, 1, 1), True)]))
