"""The fifteen kline intervals of the exchange, in whole minutes since 1970 UTC.

Intervals up to 12h divide the day; 1d and 3d count days since 1970, weeks begin on Monday, 1M is the month.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, IntArray

DAY: Final = 1440
MONTH: Final = "1M"
_WEEK: Final = 7 * DAY
_FIRST_MONDAY: Final = 4 * DAY
"""1970-01-05"""
LENGTHS: Final[dict[str, int]] = {
    "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360, "8h": 480,
    "12h": 720, "1d": DAY, "3d": 3 * DAY, "1w": _WEEK, MONTH: 30 * DAY,
}  # fmt: skip
"""Minutes; of a month, about."""


def bar_open(interval: str, minute: int) -> int:
    """The first minute of the bar that `minute` is in."""
    if interval == MONTH:
        moment = datetime.fromtimestamp(minute * 60, UTC)
        return _month(moment.year, moment.month)
    length = LENGTHS[interval]
    origin = _FIRST_MONDAY if length == _WEEK else 0
    return (minute - origin) // length * length + origin


def next_open(interval: str, bar: int) -> int:
    """The first minute of the bar after the one that opens at `bar`."""
    if interval == MONTH:
        moment = datetime.fromtimestamp(bar * 60, UTC)
        return _month(moment.year + moment.month // 12, moment.month % 12 + 1)
    return bar + LENGTHS[interval]


def bars_back(interval: str, bar: int, count: int) -> int:
    """The open of the bar that is `count` bars before the one at `bar`."""
    if interval == MONTH:
        moment = datetime.fromtimestamp(bar * 60, UTC)
        months = moment.year * 12 + moment.month - 1 - count
        return _month(months // 12, months % 12 + 1)
    return bar - count * LENGTHS[interval]


def close_ms(interval: str, bar: int) -> int:
    """The last millisecond of the bar that opens at minute `bar`."""
    return next_open(interval, bar) * MINUTE_MS - 1


def opens_between(interval: str, first: int, last: int) -> IntArray:
    """The opens, from `first` (one itself) on, that are not after `last`."""
    if interval != MONTH:
        return np.arange(first, last + 1, LENGTHS[interval], dtype=np.int64)
    opens = []
    while first <= last:
        opens.append(first)
        first = next_open(interval, first)
    return np.array(opens, dtype=np.int64)


def _month(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) // 60


def starts_in(opens: IntArray, step: int) -> NDArray[np.intp]:
    """Where each bar starts in rows that are `step` minutes long, of which the first is at `opens[0]`."""
    rows: NDArray[np.intp] = (opens - opens[0]) // step
    return rows
