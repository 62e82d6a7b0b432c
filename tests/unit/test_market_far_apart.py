"""Symbols of very different times in one update: work is bounded by what the rings hold, not by the span."""

from __future__ import annotations

import sys
from types import FrameType

from app.market.matrix import MarketMatrix
from tests.support.candle_batches import Candle, batch_of

NOW = 1_700_006_400_000 // 60_000
LONG_AGO = 1_262_304_000_000 // 60_000 + 10


def calls_of_a_correction(minute: int) -> int:
    """How many calls, of C functions too, a correction costs at NOW and, in the same update, at `minute`."""
    matrix = MarketMatrix()
    for price in (10.0, 11.0):
        matrix.update(batch_of([Candle("AAA", minute, price), Candle("BBB", NOW, price)]))
    calls = 0

    def count(_frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        matrix.update(batch_of([Candle("AAA", minute, 12.0), Candle("BBB", NOW, 12.0)]))
    finally:
        sys.setprofile(None)
    return calls


def test_corrections_of_two_symbols_years_apart_cost_no_more_than_two_that_are_near():
    assert calls_of_a_correction(LONG_AGO) < 3 * calls_of_a_correction(NOW - 30)
