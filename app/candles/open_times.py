"""Times as files give them: which unit a number is in, and how far apart the candles of a symbol are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from app.candles.batch import MINUTE_MS, FloatArray, IndexArray, IntArray
from app.candles.validity import EARLIEST_MS, LATEST_MS

_PER_S: Final = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
"""Between the bounds of a candle's time the ranges of these units do not touch, so a number tells its unit."""
NO_TIME: Final = 0
_STEPS_AT_LEAST: Final = 3
_MOSTLY: Final = 0.9


@dataclass(frozen=True, slots=True)
class Times:
    """open_ms: UTC ms, shape (rows,), NO_TIME where the number is no time from 2010 to 2100 in any unit.
    units: unit -> how many rows are in it."""

    open_ms: IntArray
    units: dict[str, int]


def times_of(numbers: IntArray | FloatArray) -> Times:
    """Return epoch times as UTC ms, each read in the unit that its size tells. NaN is no time."""
    open_ms = np.full(len(numbers), NO_TIME, np.int64)
    units = {}
    for unit, per_s in _PER_S.items():
        rows = np.flatnonzero(
            (numbers >= EARLIEST_MS // 1000 * per_s) & (numbers < LATEST_MS // 1000 * per_s)
        )
        if len(rows):
            units[unit] = len(rows)
            scaled = numbers[rows] * 1000 if per_s == 1 else numbers[rows] // (per_s // 1000)
            open_ms[rows] = np.floor(scaled).astype(np.int64)
    return Times(open_ms, units)


def steps_ms(open_ms: IntArray, symbol_index: IndexArray, symbols: int) -> IntArray:
    """Return by symbol, shape (symbols,), how far apart its candles are; MINUTE_MS where that cannot be told.

    It can be told from three steps on, if nine of ten are the same, or all are multiples of more than a minute.
    """
    order = np.lexsort((open_ms, symbol_index))
    times, index = open_ms[order], symbol_index[order]
    steps, of = np.diff(times), index[1:]
    real = (index[1:] == index[:-1]) & (steps > 0)
    steps, of = steps[real], of[real]
    found = np.full(symbols, MINUTE_MS, np.int64)
    bounds = np.searchsorted(of, np.arange(symbols + 1))
    for symbol in range(symbols):
        own = steps[bounds[symbol] : bounds[symbol + 1]]
        if len(own) < _STEPS_AT_LEAST:
            continue
        values, counts = np.unique(own, return_counts=True)
        most = int(counts.argmax())
        common = int(np.gcd.reduce(own))
        if counts[most] >= _MOSTLY * len(own):
            found[symbol] = values[most]
        elif common > MINUTE_MS:
            found[symbol] = common
    return found


def interval_words(step_ms: int) -> str:
    """Return 5m, 1h, 1d, 30s; in milliseconds unless it is a whole number of seconds."""
    for name, length_ms in (("d", 1440 * MINUTE_MS), ("h", 60 * MINUTE_MS), ("m", MINUTE_MS), ("s", 1000)):
        if step_ms % length_ms == 0:
            return f"{step_ms // length_ms}{name}"
    return f"{step_ms} ms"
