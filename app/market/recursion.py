"""The recursive indicators: exponential and Wilder averages, one step per closed bar.

State of a timeframe, ten rows: 0 n, bars closed without a break; 1 close of the last; 2 ema_20; 3 ema_50;
4 and 5 MACD's averages over 12 and 26; 6 and 7 Wilder averages of gain and loss; 8 of the true range; 9
MACD's signal. Each average moves by value += (input - value) * weight.

Formulas and seeds are TA-Lib's (ta_EMA.c, ta_MACD.c, ta_RSI.c, ta_ATR.c): an average of period p starts as
the simple mean of its first p inputs. A running mean is the same recursion with weight 1/k at the k-th
input, so seeding is a table of weights by n. MACD's fast average is seeded so that it starts with the slow
one, at bar 26,
from the 12 bars before; the signal from the first 9 differences; gains, losses and true ranges exist from the
second bar on.

A missing bar ends the run: the state becomes zero and warms up again, so that values are null rather than
computed across a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from app.candles.batch import BoolArray, FloatArray
from app.market.state import RECURSIVE_ROWS

BARS, LAST_CLOSE, SIGNAL = 0, 1, 9
AVERAGES: Final = slice(2, 9)
EMA_20, EMA_50, FAST, SLOW, GAIN, LOSS, RANGE = range(7)
"""Positions within AVERAGES."""
_WARM: Final = 50
"""From this many bars on, no weight changes any more."""


def _weights() -> FloatArray:
    """(8, _WARM + 1): weight of the next input by n, of the seven averages and the signal."""
    n = np.arange(_WARM + 1, dtype=np.float64)

    def seeded(start: int, period: int, then: float) -> FloatArray:
        running_mean = 1.0 / np.maximum(n - start + 1.0, 1.0)
        return np.where(n < start, 0.0, np.where(n < start + period, running_mean, then))

    wilder = seeded(1, 14, 1.0 / 14.0)
    return np.stack((
        seeded(0, 20, 2.0 / 21.0), seeded(0, 50, 2.0 / 51.0),
        seeded(14, 12, 2.0 / 13.0), seeded(0, 26, 2.0 / 27.0),
        wilder, wilder, wilder, seeded(25, 9, 2.0 / 10.0),
    ))  # fmt: skip


_WEIGHTS: Final = _weights()


def _weights_or_null() -> FloatArray:
    """(8, _WARM + 2): `_weights` for evaluation, NaN where the field made of an average is still null; the
    last column, for n = -1, is all null. MACD's three fields become null through the fast average."""
    n = np.append(np.arange(_WARM + 1), -1)
    table = np.concatenate((_WEIGHTS, np.full((8, 1), np.nan)), axis=1)
    for row, needed in ((EMA_20, 19), (EMA_50, 49), (FAST, 33), (GAIN, 14), (LOSS, 14), (RANGE, 14)):
        table[row, n < needed] = np.nan
    return table


_WEIGHTS_OR_NULL: Final = _weights_or_null()


def weights(bars: FloatArray, null_until_warm: bool = False) -> FloatArray:
    """(8, *bars.shape), or (8, 1, ..) when all are past their seeds; bars: n before the input.

    null_until_warm: NaN where too few bars have closed for a field to have a value, and for n = -1.
    """
    if bars.min(initial=_WARM) >= _WARM:
        return _WEIGHTS[:, -1].reshape(8, *(1,) * bars.ndim)
    position = np.minimum(bars, _WARM).astype(np.intp)
    return (_WEIGHTS_OR_NULL if null_until_warm else _WEIGHTS)[:, position]


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """Consecutive bars of one timeframe, (B, W) each. complete: whether all minutes of the bar are known,
    None if all are. active: the bars to be taken in, None if all."""

    high: FloatArray
    negated_low: FloatArray
    close: FloatArray
    complete: BoolArray | None = None
    active: BoolArray | None = None


def inputs(
    high: FloatArray, negated_low: FloatArray, close: FloatArray, last_close: FloatArray
) -> FloatArray:
    """(7, ...): what each average takes in, for a bar after one that closed at `last_close`."""
    change = close - last_close
    taken = np.empty((7, *change.shape))
    taken[:GAIN] = close
    np.maximum(change, 0.0, out=taken[GAIN])
    np.subtract(taken[GAIN], change, out=taken[LOSS])
    np.maximum(high, last_close, out=taken[RANGE])
    taken[RANGE] += np.maximum(negated_low, -last_close)
    return taken


def advance(state: FloatArray, bars: Bars) -> FloatArray:
    """Takes the bars into `state` (10, W), in place; answers the state before each bar, (B, 10, W)."""
    if bars.complete is None and bars.active is None:
        return _advance_all(state, bars)
    before = np.empty((len(bars.close), *state.shape))
    for bar in range(len(bars.close)):
        row = slice(bar, bar + 1)
        before[bar] = state
        after = state.copy()
        _advance_all(after, Bars(bars.high[row], bars.negated_low[row], bars.close[row]))
        if bars.complete is not None:
            after[:, ~bars.complete[bar]] = 0.0
        taken = slice(None) if bars.active is None else bars.active[bar]
        state[:, taken] = after[:, taken]
    return before


def _advance_all(state: FloatArray, bars: Bars) -> FloatArray:
    count, width = bars.close.shape
    last_close = np.empty((count, width))
    last_close[0] = state[LAST_CLOSE]
    last_close[1:] = bars.close[:-1]
    n = state[BARS] + np.arange(count)[:, np.newaxis]
    taken = inputs(bars.high, bars.negated_low, bars.close, last_close)
    weight = weights(n)
    varies = weight.shape[1] > 1

    averages = np.empty((count + 1, 7, width))
    averages[0] = state[AVERAGES]
    step = np.empty((7, width))
    for bar in range(count):
        np.subtract(taken[:, bar], averages[bar], out=step)
        step *= weight[:7, bar if varies else 0]
        np.add(averages[bar], step, out=averages[bar + 1])
    difference = averages[1:, FAST] - averages[1:, SLOW]
    signal = np.empty((count + 1, width))
    signal[0] = state[SIGNAL]
    for bar in range(count):
        signal[bar + 1] = signal[bar] + (difference[bar] - signal[bar]) * weight[7, bar if varies else 0]

    before = np.empty((count, RECURSIVE_ROWS, width))
    before[:, BARS], before[:, LAST_CLOSE] = n, last_close
    before[:, AVERAGES], before[:, SIGNAL] = averages[:-1], signal[:-1]
    state[BARS], state[LAST_CLOSE] = n[-1] + 1.0, bars.close[-1]
    state[AVERAGES], state[SIGNAL] = averages[-1], signal[-1]
    return before
