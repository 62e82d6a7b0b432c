"""Closes of a whole period, in memory or in a file."""

from __future__ import annotations

import numpy as np
import pytest

from app.backtest.prices import ClosePrices
from app.candles.batch import MINUTE_MS
from app.cli.candles.kept_closes import KeptCloses
from tests.support.candle_history import START_MS, candles

START = START_MS // MINUTE_MS


@pytest.fixture(params=["in memory", "in a file"])
def prices(request):
    kept = KeptCloses()
    yield ClosePrices() if request.param == "in memory" else ClosePrices(kept, memory_closes=0)
    kept.close()


def test_prices_may_come_in_any_order_with_gaps_new_symbols_and_corrections(prices):
    prices.record(candles([7.0], "A", start=12_000))
    prices.record(candles([5.0, 6.0], "B", start=10))
    prices.record(candles([8.0], "A", start=12_000))
    prices.record(candles([9.0], "A", start=15_000))
    prices.record(candles([4.0], "C", start=11))
    prices.record(candles([3.0], "D", start=12_000))
    prices.record(candles([1.0], "E", start=0).take(slice(0, 0)))
    assert prices.first_ms == START_MS + 10 * MINUTE_MS
    assert prices.minutes == 14_991
    assert prices.symbols == {"A": 0, "B": 1, "C": 2, "D": 3}
    known = {}
    for symbol, column in prices.symbols.items():
        series = prices.series(column)
        assert len(series) == prices.minutes
        known |= {(10 + at, symbol): series[at] for at in np.flatnonzero(~np.isnan(series)).tolist()}
    assert known == {
        (10, "B"): 5.0,
        (11, "B"): 6.0,
        (11, "C"): 4.0,
        (12_000, "A"): 8.0,
        (12_000, "D"): 3.0,
        (15_000, "A"): 9.0,
    }


def test_a_close_is_found_by_minute_and_symbol_and_unknown_elsewhere(prices):
    for day in range(5):
        prices.record(candles([float(day)], "A", start=1440 * day))
    prices.record(candles([50.0], "B", start=1440 * 4))
    minutes = START + 1440 * np.array([0, 3, 4, 0, 9])
    found = prices.at(minutes, np.array([0, 0, 1, 1, 0]))
    np.testing.assert_array_equal(found, [0, 3, 50, np.nan, np.nan])
    assert prices.at(np.zeros(0, np.int64), np.zeros(0, np.int64)).shape == (0,)


def test_without_candles_there_are_no_minutes(prices):
    assert (prices.minutes, prices.first_ms, prices.symbols) == (0, 0, {})
