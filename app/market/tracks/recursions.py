"""Indicators that move with every bar, for any length: their states by symbol and bar.

Formulas and seeds are TA-Lib's (ta_EMA.c, ta_RSI.c, ta_ATR.c, ta_MACD.c, ta_ADX.c, ta_OBV.c): an average of period n
starts as the simple mean of its first n inputs, here as a running mean. The state after each bar is kept as far back as
a bar may change, so that a late minute moves the states after it again. A bar with an unknown value ends a state; the
next begins anew.

States, each from its first bar on; 0: how many bars it has seen.
  EMA          1 average
  RSI          1 last value; 2 and 3 averages of gain and loss
  ATR          1 last close; 2 average of the true range
  MACD         1 and 2 fast and slow average; 3 signal
  ADX          1 to 3 last high, low, close; 4 and 5 sums of movement down and up; 6 of the true range; 7 average
  OBV          1 last close; 2 the sum
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import BoolArray, FloatArray, IntArray
from app.compiled import inlined, kernel
from app.market.tracks.blocks import NO_TIME

STATE: Final = 8
_TA_LIB_ZERO: Final = 1e-14
"""Below this TA-Lib takes a number for zero."""


class Moves(IntEnum):
    """Which indicator; SIGNAL is that of the MACD."""

    EMA = 0
    RSI = 1
    ATR = 2
    MACD = 3
    SIGNAL = 4
    ADX = 5
    OBV = 6


_EMA, _RSI, _ATR, _MACD = Moves.EMA.value, Moves.RSI.value, Moves.ATR.value, Moves.MACD.value
_SIGNAL, _ADX = Moves.SIGNAL.value, Moves.ADX.value


@kernel
def move(
    indicator: int, lengths: IntArray, states: FloatArray, bars: IntArray, newest: IntArray,
    times: IntArray, symbols: NDArray[np.intp], kept: BoolArray, inputs: FloatArray,
    state: FloatArray, out: FloatArray,
) -> None:  # fmt: skip
    """Put the indicator at every row; keep the states of the kept rows, whose bars end.

    lengths: (3,). states: (ring, STATE, symbols), of bar b in place b % ring. bars: (ring, symbols), which bar stands
    there. newest: (symbols,). times: (rows,), the number of each row's bar. inputs: (3, rows). state: scratch.
    """
    ring = len(bars)
    for row in range(len(times)):
        time, i = times[row], symbols[row]
        before = (time - 1) % ring
        known = bars[before, i] == time - 1
        for k in range(STATE):
            state[k] = states[before, k, i] if known else 0.0
        a, b, c = inputs[0, row], inputs[1, row], inputs[2, row]
        if math.isnan(a) or math.isnan(b) or math.isnan(c):
            state[:] = 0.0
            out[row] = math.nan
        else:
            out[row] = _moved(indicator, lengths, state, a, b, c)
        if not kept[row] or (newest[i] != NO_TIME and time - 1 <= newest[i] - ring):
            continue
        newest[i] = max(newest[i], time)
        place = time % ring
        bars[place, i] = time
        for k in range(STATE):
            states[place, k, i] = state[k]


@inlined
def _moved(indicator: int, lengths: IntArray, state: FloatArray, a: float, b: float, c: float) -> float:
    """Move the state by a bar; return the indicator's value, NaN while there are too few bars."""
    bars, n = state[0], float(lengths[0])
    state[0] = bars + 1.0
    if indicator == _EMA:
        state[1] += (a - state[1]) * _weight(bars, n, 2.0 / (n + 1.0))
        return float(state[1]) if bars + 1.0 >= n else math.nan
    if indicator == _RSI:
        return _rsi(state, bars, n, a)
    if indicator == _ATR:
        if bars > 0.0:
            true_range = max(a, state[1]) - min(b, state[1])
            state[2] += (true_range - state[2]) * _weight(bars - 1.0, n, 1.0 / n)
        state[1] = c
        return float(state[2]) if bars >= n else math.nan
    if indicator in (_MACD, _SIGNAL):
        return _macd(indicator, lengths, state, bars, a)
    if indicator == _ADX:
        return _adx(state, bars, n, a, b, c)
    if bars == 0.0:
        state[2] = b
    elif a != state[1]:
        state[2] += b if a > state[1] else -b
    state[1] = a
    return float(state[2])


@inlined
def _weight(before: float, n: float, then: float) -> float:
    """Return the weight of the input after `before` inputs: a mean of the first n inputs, then the weight `then`."""
    return 1.0 / (before + 1.0) if before < n else then


@inlined
def _rsi(state: FloatArray, bars: float, n: float, value: float) -> float:
    if bars > 0.0:
        change = value - state[1]
        gain = max(change, 0.0)
        weight = _weight(bars - 1.0, n, 1.0 / n)
        state[2] += (gain - state[2]) * weight
        state[3] += (gain - change - state[3]) * weight
    state[1] = value
    if bars < n:
        return math.nan
    moved = state[2] + state[3]
    return 0.0 if moved < _TA_LIB_ZERO else float(state[2] / moved * 100.0)


@inlined
def _macd(indicator: int, lengths: IntArray, state: FloatArray, bars: float, value: float) -> float:
    """The fast average starts with the slow one, from the last bars before it."""
    fast, slow = float(lengths[0]), float(lengths[1])
    late = bars - (slow - fast)
    if late >= 0.0:
        state[1] += (value - state[1]) * _weight(late, fast, 2.0 / (fast + 1.0))
    state[2] += (value - state[2]) * _weight(bars, slow, 2.0 / (slow + 1.0))
    if bars + 1.0 < slow:
        return math.nan
    macd = float(state[1] - state[2])
    if indicator == _MACD:
        return macd
    given, signal = bars + 1.0 - slow, float(lengths[2])
    state[3] += (macd - state[3]) * _weight(given, signal, 2.0 / (signal + 1.0))
    return float(state[3]) if given + 1.0 >= signal else math.nan


@inlined
def _adx(state: FloatArray, bars: float, n: float, high: float, low: float, close: float) -> float:
    if bars > 0.0:
        down, up = state[2] - low, high - state[1]
        true_range = max(high, state[3]) - min(low, state[3])
        if bars >= n:
            for k in range(4, 7):
                state[k] -= state[k] / n
        if down > 0.0 and up < down:
            state[4] += down
        elif up > 0.0 and up > down:
            state[5] += up
        state[6] += true_range
        if bars >= n:
            _move_direction(state, bars, n)
    state[1], state[2], state[3] = high, low, close
    return float(state[7]) if bars >= 2.0 * n - 1.0 else math.nan


@inlined
def _move_direction(state: FloatArray, bars: float, n: float) -> None:
    """Move the ADX. A bar without movement adds nothing to the first mean, and later leaves the average unchanged."""
    direction, moves = 0.0, False
    if state[6] >= _TA_LIB_ZERO:
        down, up = 100.0 * (state[4] / state[6]), 100.0 * (state[5] / state[6])
        if down + up >= _TA_LIB_ZERO:
            direction, moves = 100.0 * (abs(down - up) / (down + up)), True
    if bars < 2.0 * n:
        state[7] += direction / n
    elif moves:
        state[7] = (state[7] * (n - 1.0) + direction) / n


class Recursion:
    """One indicator of all symbols. late: how many bars before the newest may still change."""

    def __init__(self, indicator: Moves, lengths: tuple[int, ...], late: int, symbols: int = 0) -> None:
        self._indicator = indicator.value
        self._lengths = np.array((*lengths, 0, 0, 0)[:3], np.int64)
        self._ring = late + 3
        self.states: FloatArray = np.zeros((self._ring, STATE, symbols))
        self.bars: IntArray = np.full((self._ring, symbols), NO_TIME, np.int64)
        self.newest: IntArray = np.full(symbols, NO_TIME, np.int64)
        self._state: FloatArray = np.empty(STATE)

    def grow(self, symbols: int) -> None:
        more = symbols - len(self.newest)
        if more > 0:
            self.states = np.concatenate((self.states, np.zeros((self._ring, STATE, more))), axis=2)
            self.bars = np.concatenate((self.bars, np.full((self._ring, more), NO_TIME)), axis=1)
            self.newest = np.append(self.newest, np.full(more, NO_TIME))

    def memory_bytes(self) -> int:
        return self.states.nbytes + self.bars.nbytes

    def follow(
        self, times: IntArray, symbols: NDArray[np.intp], kept: BoolArray, inputs: FloatArray
    ) -> FloatArray:
        """Return the indicator at every row. times: the numbers of the bars. kept: whether the row ends its bar, and
        is remembered. inputs: (3, rows), by the indicator: its source, or high, low, close, or close, volume."""
        out = np.empty(len(times))
        move(
            self._indicator, self._lengths, self.states, self.bars, self.newest,
            times, symbols, kept, inputs, self._state, out,
        )  # fmt: skip
        return out

    def take(self, other: Recursion, symbols: NDArray[np.intp]) -> None:
        """Take over the states of another memory of the same indicator. symbols: positions here of its symbols."""
        if len(symbols):
            self.grow(int(symbols.max()) + 1)
            held = len(symbols)
            self.states[..., symbols] = other.states[..., :held]
            self.bars[:, symbols] = other.bars[:, :held]
            self.newest[symbols] = other.newest[:held]

    def keep(self, symbols: list[int]) -> None:
        """Hold just these symbols, in this order."""
        self.states = np.ascontiguousarray(self.states[..., symbols])
        self.bars = np.ascontiguousarray(self.bars[:, symbols])
        self.newest = self.newest[symbols]

    def packed(self, symbols: int) -> dict[str, NDArray[Any]]:
        self.grow(symbols)
        return {
            "states": self.states[..., :symbols],
            "bars": self.bars[:, :symbols],
            "newest": self.newest[:symbols],
        }

    def unpack(self, parts: Mapping[str, NDArray[Any]], symbols: NDArray[np.intp]) -> bool:
        """Take over the result of `packed`; return whether it had this shape. symbols: their positions here."""
        states, bars, newest = parts["states"], parts["bars"], parts["newest"]
        if states.shape != (self._ring, STATE, len(symbols)) or bars.shape != (self._ring, len(symbols)):
            return False
        other = Recursion(Moves(self._indicator), (), self._ring - 3)
        other.states, other.bars, other.newest = states, bars, newest
        self.take(other, symbols)
        return True
