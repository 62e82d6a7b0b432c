"""The fifteen intervals of an exchange's klines, and where their bars begin: all on the UTC clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from app.candles.batch import MINUTE_MS

DAY_MS: Final = 1440 * MINUTE_MS
_MONDAY_MS: Final = 4 * DAY_MS
"""1970-01-05, the first Monday since 1970."""


@dataclass(frozen=True, slots=True)
class Interval:
    """length_ms: None for a calendar month. origin_ms: a time at which a bar begins; the others follow from it."""

    name: str
    length_ms: int | None
    origin_ms: int = 0

    def start_of(self, time_ms: int) -> int:
        """Return the open time of the bar that `time_ms` lies in."""
        if self.length_ms is None:
            moment = datetime.fromtimestamp(time_ms / 1000, UTC)
            return _month_ms(moment.year * 12 + moment.month - 1)
        return time_ms - (time_ms - self.origin_ms) % self.length_ms

    def step(self, start_ms: int, bars: int) -> int:
        """Return the open time of the bar that is `bars` later (negative: earlier) than the one opened at
        `start_ms`."""
        if self.length_ms is None:
            moment = datetime.fromtimestamp(start_ms / 1000, UTC)
            return _month_ms(moment.year * 12 + moment.month - 1 + bars)
        return start_ms + bars * self.length_ms


def _month_ms(number: int) -> int:
    """Return when a month begins. number: counted from January of year 0; a month before year 1 gives January of year
    1."""
    year, month = divmod(max(number, 12), 12)
    return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp()) * 1000


def _intervals() -> dict[str, Interval]:
    minutes = {"1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30}
    hours = {"1h": 60, "2h": 120, "4h": 240, "6h": 360, "8h": 480, "12h": 720}
    days = {"1d": 1440, "3d": 4320}
    found = {name: Interval(name, length * MINUTE_MS) for name, length in (minutes | hours | days).items()}
    return found | {"1w": Interval("1w", 7 * DAY_MS, _MONDAY_MS), "1M": Interval("1M", None)}


INTERVALS: Final = _intervals()
"""By name, shortest first. Bars of 3d are counted from 1970-01-01, weeks begin on Monday."""
