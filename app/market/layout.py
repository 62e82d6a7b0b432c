"""Time and the layout of the rolling state: which row of which ring holds a minute, and which plane is what.

Minutes are numbered from 1970 (UTC). A *quarter* is a clock-aligned run of 15 minutes: the block in which
the matrix works. A ring of whole quarters keeps each quarter's minutes in consecutive rows.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from app.market.timeframes import TIMEFRAMES

QUARTER: Final = 15
HOUR: Final = 60
DAY: Final = 1440
WEEK: Final = 7 * DAY
_EPOCH_TO_MONDAY: Final = 3 * DAY
"""1970-01-01 was a Thursday: three days after a Monday."""

LENGTHS: Final = np.array(list(TIMEFRAMES.values()), dtype=np.int64)
"""Minutes of each timeframe, shortest first."""
TIMEFRAME_COUNT: Final = len(TIMEFRAMES)
LONG: Final = slice(2, TIMEFRAME_COUNT)
"""The timeframes made of whole quarters: 15m and longer."""
QUARTERS_OF_LONG: Final = tuple(int(n) // QUARTER for n in LENGTHS[LONG])

# Planes of sums, in this order so that a caller who needs fewer takes a prefix.
QUOTE, COUNT, VOLUME, TRADES = 0, 1, 2, 3
# Planes of extremes: the low is kept negated, so that both are maxima.
HIGH, NEGATED_LOW = 0, 1
# Planes of the minute ring.
MINUTE_PLANES: Final = ("volume", "trades", "high", "negated_low", "open", "close")
OPEN, CLOSE = 4, 5

NO_MINUTE: Final = -1
"""In place of a minute that does not exist yet."""


def day_start(minute: int) -> int:
    return minute - minute % DAY


def week_start(minute: int) -> int:
    """Monday 00:00 UTC at or before `minute`."""
    return minute - (minute + _EPOCH_TO_MONDAY) % WEEK
