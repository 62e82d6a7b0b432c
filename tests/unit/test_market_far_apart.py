"""Symbols of very different times in one update: work is bounded by what the rings hold, not by the span."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

from app.market.matrix import MarketMatrix
from tests.support.candle_batches import Candle, batch_of
from tests.support.processor_time import cpu_s

NOW = 1_700_006_400_000 // 60_000
LONG_AGO = 1_262_304_000_000 // 60_000 + 10
MUCH = 50
"""A step for each minute between would be some thousands."""


def corrected(minute: int) -> Callable[[], object]:
    """A correction at NOW and, in the same update, at `minute`; it can be done once."""
    matrix = MarketMatrix()
    for price in (10.0, 11.0):
        matrix.update(batch_of([Candle("AAA", minute, price), Candle("BBB", NOW, price)]))
    correction = batch_of([Candle("AAA", minute, 12.0), Candle("BBB", NOW, 12.0)])
    return lambda: matrix.update(correction)


def calls_of_a_correction(minute: int) -> int:
    """How many calls, of C functions too, a correction costs."""
    correct, calls = corrected(minute), 0

    def count(_frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        correct()
    finally:
        sys.setprofile(None)
    return calls


def cost_s(minute: int) -> float:
    """Processor time, compiled loops included."""
    return min(cpu_s(corrected(minute), rounds=1) for _ in range(5))


def test_corrections_of_two_symbols_years_apart_cost_no_more_than_two_that_are_near():
    assert calls_of_a_correction(LONG_AGO) < 3 * calls_of_a_correction(NOW - 30)
    assert cost_s(LONG_AGO) < MUCH * cost_s(NOW - 30)
