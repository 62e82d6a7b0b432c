"""The exchange's fifteen kline intervals in minutes since 1970 UTC, the unit in which the simulation counts."""

from __future__ import annotations

from typing import Final

import numpy as np

from app.candles.batch import MINUTE_MS, IntArray
from app.candles.intervals import DAY_MS, INTERVALS

LENGTHS: Final[dict[str, int]] = {
    name: (interval.length_ms or 30 * DAY_MS) // MINUTE_MS for name, interval in INTERVALS.items()
}
"""In minutes; approximate for a month."""


def bar_open(interval: str, minute: int) -> int:
    """Return the first minute of the bar that `minute` is in."""
    return INTERVALS[interval].start_of(minute * MINUTE_MS) // MINUTE_MS


def next_open(interval: str, bar: int) -> int:
    """Return the first minute of the bar after the one that opens at `bar`."""
    return bars_back(interval, bar, -1)


def bars_back(interval: str, bar: int, count: int) -> int:
    """Return the open of the bar that is `count` bars before the one at `bar`."""
    return INTERVALS[interval].step(bar * MINUTE_MS, -count) // MINUTE_MS


def close_ms(interval: str, bar: int) -> int:
    """Return the last millisecond of the bar that opens at minute `bar`."""
    return next_open(interval, bar) * MINUTE_MS - 1


def opens_between(interval: str, first: int, last: int) -> IntArray:
    """Return the opens, from `first` (one itself) on, that are not after `last`."""
    if INTERVALS[interval].length_ms is not None:
        return np.arange(first, last + 1, LENGTHS[interval], dtype=np.int64)
    opens = []
    while first <= last:
        opens.append(first)
        first = next_open(interval, first)
    return np.array(opens, dtype=np.int64)
