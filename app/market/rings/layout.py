"""Time: minutes, quarters and timeframes, and how much of the past is kept of each.

Minutes are numbered from 1970 (UTC). A *quarter* is a clock-aligned run of 15 minutes. The part of each window before
the current quarter is computed once for that quarter.
"""

from __future__ import annotations

from typing import Final

from app.compiled import inlined
from app.market.timeframes import TIMEFRAMES

QUARTER: Final = 15
FIVES_IN_QUARTER: Final = QUARTER // 5
DAY: Final = 1440
WEEK: Final = 7 * DAY
_EPOCH_TO_MONDAY: Final = 3 * DAY
"""1970-01-01 was a Thursday: three days after a Monday."""

LENGTHS: Final = tuple(TIMEFRAMES.values())
"""Minutes of each timeframe, shortest first."""
TIMEFRAME_COUNT: Final = len(LENGTHS)
SPANS: Final = tuple(n // QUARTER for n in LENGTHS[2:])
"""Quarters of the timeframes made of whole ones: 15m and longer."""
WINDOW_COUNT: Final = len(SPANS)

BAND_BARS: Final = 20
FIRST_WITH_OWN_CLOSES: Final = next(i for i, n in enumerate(LENGTHS) if n * BAND_BARS > DAY)
"""Position of the first timeframe whose bands need closes that the rings of minutes do not hold: they are kept
apart."""
LONG_CLOSES: Final = 24
"""Closes kept of the last 4h, 8h and 1d bars, which outlive the ring: 19 for the bands, and a few more."""
OWN_QUARTERS: Final = 96
"""Ranges kept of the exchange's last bars of 15m: the 77 that a cloud needs, and more for bars computed late."""
CHECKPOINT_MINUTES: Final = 240
CHECKPOINTS: Final = 8
"""Copies of the indicator state every four hours: more than a ring of minutes spans."""

LATE_HORIZON_MINUTES: Final = 60
"""How far before a symbol's newest minute a late or corrected candle still leads to new rows."""

NO_MINUTE: Final = -1
"""In place of a minute that does not exist yet."""


@inlined
def day_start(minute: int) -> int:
    return minute - minute % DAY


@inlined
def week_start(minute: int) -> int:
    """Return Monday 00:00 UTC at or before `minute`."""
    return minute - (minute + _EPOCH_TO_MONDAY) % WEEK
