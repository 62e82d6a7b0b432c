"""The indicators on clock-aligned bars that move with every closed bar: one kernel each, and their table.

A kernel gets the averages of `averages.py` with the bar taken in, moves its own state, if any, in place, and returns
the indicator's fields. The same kernel serves a bar that closes and one that would close now: for the latter it works
on a copy. A new indicator is a kernel here, its entry in INDICATORS and its fields in `fields.py`.

Formulas: TA-Lib's (ta_EMA.c, ta_MACD.c, ta_RSI.c, ta_ATR.c).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Final, NamedTuple

from app.candles.batch import FloatArray
from app.compiled import inlined
from app.market.fields import FIELDS
from app.market.indicators.averages import (
    EMA_20,
    EMA_50,
    FAST,
    FIRST_PLANE,
    GAIN,
    LOSS,
    RANGE,
    SIGNAL_WEIGHT,
    SLOW,
    weight,
)

_TA_LIB_ZERO: Final = 1e-14
"""Below this TA-Lib takes the sum of gains and losses for zero, and the RSI is 0."""


class Bar(NamedTuple):
    """A bar that closes, or would. bars: how many closed before it without a break."""

    bars: float
    high: float
    low: float
    close: float


Kernel = Callable[[Bar, FloatArray, FloatArray], tuple[float, ...]]
"""(bar, averages by their positions in the state with the bar taken in, planes of the indicator) -> its fields."""


@dataclass(frozen=True, slots=True)
class BarIndicator:
    """One indicator. fields: its fields in `fields.py`. bars: how many must have closed, or close now, for its first
    value. planes: numbers of state by symbol and timeframe, zero when a run of bars begins."""

    fields: tuple[str, ...]
    bars: int
    kernel: Kernel
    planes: int = 0


@inlined
def _ema_20(bar: Bar, averages: FloatArray, planes: FloatArray) -> tuple[float, ...]:
    return (averages[EMA_20],)


@inlined
def _ema_50(bar: Bar, averages: FloatArray, planes: FloatArray) -> tuple[float, ...]:
    return (averages[EMA_50],)


@inlined
def _atr(bar: Bar, averages: FloatArray, planes: FloatArray) -> tuple[float, ...]:
    return (averages[RANGE],)


@inlined
def _rsi(bar: Bar, averages: FloatArray, planes: FloatArray) -> tuple[float, ...]:
    """100 * gain / (gain + loss)."""
    moved = averages[GAIN] + averages[LOSS]
    return (0.0 if moved < _TA_LIB_ZERO else averages[GAIN] / moved * 100.0,)


@inlined
def _macd(bar: Bar, averages: FloatArray, planes: FloatArray) -> tuple[float, ...]:
    """fast - slow, its exponential average (the signal, one plane), and their difference."""
    macd = averages[FAST] - averages[SLOW]
    planes[0] += (macd - planes[0]) * weight(bar.bars, SIGNAL_WEIGHT)
    return macd, planes[0], macd - planes[0]


INDICATORS: Final = (
    BarIndicator(("ema_20",), 20, _ema_20),
    BarIndicator(("ema_50",), 50, _ema_50),
    BarIndicator(("atr_14",), 15, _atr),
    BarIndicator(("rsi_14",), 15, _rsi),
    BarIndicator(("macd", "macd_signal", "macd_hist"), 34, _macd, planes=1),
)
RECURSIVE_ROWS: Final = FIRST_PLANE + sum(indicator.planes for indicator in INDICATORS)

_Placed = Callable[[Bar, FloatArray, FloatArray, int], None]


def _placed(indicator: BarIndicator, first: int) -> _Placed:
    """Return the indicator's kernel with the places of its planes in the state and of its fields in a row."""
    kernel, bars, after = indicator.kernel, float(indicator.bars), first + indicator.planes
    places = tuple(FIELDS.index(name) for name in indicator.fields)

    @inlined
    def run(bar: Bar, state: FloatArray, row: FloatArray, base: int) -> None:
        values = kernel(bar, state, state[first:after])
        for k in range(len(places)):
            row[base + places[k]] = values[k] if bar.bars + 1.0 >= bars else math.nan

    return run


def _in_turn(first: _Placed, second: _Placed) -> _Placed:
    @inlined
    def run(bar: Bar, state: FloatArray, row: FloatArray, base: int) -> None:
        first(bar, state, row, base)
        second(bar, state, row, base)

    return run


def _all() -> _Placed:
    first, placed = FIRST_PLANE, []
    for indicator in INDICATORS:
        placed.append(_placed(indicator, first))
        first += indicator.planes
    return reduce(_in_turn, placed)


move_indicators: Final = _all()
"""(bar, state with the averages moved, row, base): moves the planes of every indicator, and puts its fields into
the row from `base` on, where the timeframe's begin; null where too few bars have closed."""
