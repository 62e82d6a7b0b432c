"""The averages that indicators are made of, exponential and Wilder's: their inputs, and their weights by bar.

State of a timeframe: 0 n, bars closed without a break; 1 close of the last; 2 ema_20; 3 ema_50; 4 and 5 MACD's
averages over 12 and 26; 6 and 7 Wilder averages of gain and loss; 8 of the true range; then the planes of the
indicators (`bar_indicators.py`). Each average moves by value += (input - value) * weight.

Formulas and seeds are TA-Lib's (ta_EMA.c, ta_MACD.c, ta_RSI.c, ta_ATR.c): an average of period p starts as
the simple mean of its first p inputs. A running mean is the same recursion with weight 1/k at the k-th
input, so seeding is a table of weights by n. MACD's fast average is seeded so that it starts with the slow
one, at bar 26, from the 12 bars before; the signal from the first 9 differences; gains, losses and true ranges exist
from the second bar on.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from app.candles.batch import FloatArray
from app.compiled import inlined

BARS, LAST_CLOSE, FIRST_AVERAGE = 0, 1, 2
EMA_20, EMA_50, FAST, SLOW, GAIN, LOSS, RANGE = range(FIRST_AVERAGE, FIRST_AVERAGE + 7)
"""Positions in the state."""
FIRST_PLANE: Final = 9
"""Position of the indicators' first plane in the state of a timeframe."""
SIGNAL_WEIGHT: Final = 7
"""Position of the signal's weight, after the weights of the averages."""
_WARM: Final = 50
"""From this many bars on, no weight changes any more."""


def _weights() -> FloatArray:
    """Return (_WARM + 1, 8): by n, the weight of the next input in the seven averages and the signal."""
    n = np.arange(_WARM + 1, dtype=np.float64)

    def seeded(start: int, period: int, then: float) -> FloatArray:
        running_mean = 1.0 / np.maximum(n - start + 1.0, 1.0)
        return np.where(n < start, 0.0, np.where(n < start + period, running_mean, then))

    wilder = seeded(1, 14, 1.0 / 14.0)
    return np.stack((
        seeded(0, 20, 2.0 / 21.0), seeded(0, 50, 2.0 / 51.0),
        seeded(14, 12, 2.0 / 13.0), seeded(0, 26, 2.0 / 27.0),
        wilder, wilder, wilder, seeded(25, 9, 2.0 / 10.0),
    ), axis=1)  # fmt: skip


_WEIGHTS: Final = _weights()


@inlined
def weight(bars: float, average: int) -> float:
    """Return the weight of the input after `bars` bars. average: its place among the averages, or SIGNAL_WEIGHT."""
    return float(_WEIGHTS[min(int(bars), _WARM), average])


@inlined
def move_averages(state: FloatArray, high: float, low: float, close: float) -> None:
    """Take a bar into a timeframe's state, all but the planes: the averages, the number of bars and the last
    close."""
    bars, last_close = state[BARS], state[LAST_CLOSE]
    change = close - last_close
    gain = max(change, 0.0)
    true_range = max(high, last_close) - min(low, last_close)
    taken = (close, close, close, close, gain, gain - change, true_range)
    for average in range(7):
        place = FIRST_AVERAGE + average
        state[place] += (taken[average] - state[place]) * weight(bars, average)
    state[BARS], state[LAST_CLOSE] = bars + 1.0, close
