"""Bars of long timeframes that a missing minute has broken: when to fetch them, and how often to try.

Pure: times come in as arguments. A bar is fetched when it is over by the exchange's time; the request brings the bars
before it too, so that one request repairs all bars that were broken until then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from app.candles.batch import MINUTE_MS
from app.candles.known_minutes import Gap
from app.feed.exchange_clock import GRACE_MS
from app.market.timeframes import TIMEFRAMES
from app.wire.retry import Backoff

_BACKOFF: Final = Backoff(30.0, 600.0)
_MOST_FAILURES: Final = 12
"""More than an hour; at the next start of the feed all are fetched anyway."""


@dataclass(frozen=True, slots=True)
class BarSeries:
    """The bars of a symbol in a timeframe."""

    timeframe: str
    symbol: str


@dataclass(slots=True)
class _Need:
    first_end_ms: int = 0
    last_end_ms: int = 0
    """Ends of the first and the last bar that is broken, UTC."""
    failures: int = 0
    not_before_s: float = 0.0


class BrokenBars:
    """The broken bars by symbol and timeframe. Times in seconds are monotonic."""

    def __init__(self, timeframes: Sequence[str]) -> None:
        self._timeframes = tuple(timeframes)
        self._needs: dict[BarSeries, _Need] = {}

    def __len__(self) -> int:
        return len(self._needs)

    def note(self, gap: Gap) -> None:
        """Note minutes that are missing for good."""
        for timeframe in self._timeframes:
            length_ms = TIMEFRAMES[timeframe] * MINUTE_MS
            first_end_ms = (gap.first_ms // length_ms + 1) * length_ms
            last_end_ms = (gap.last_ms // length_ms + 1) * length_ms
            need = self._needs.setdefault(BarSeries(timeframe, gap.symbol), _Need(first_end_ms, last_end_ms))
            need.first_end_ms = min(need.first_end_ms, first_end_ms)
            need.last_end_ms = max(need.last_end_ms, last_end_ms)

    def due(self, now_ms: int, now_s: float, most: int) -> list[BarSeries]:
        """Return series whose first broken bar is over, short timeframes first. now_ms: the exchange's time."""
        found = [
            bar
            for bar, need in self._needs.items()
            if need.first_end_ms + GRACE_MS <= now_ms and need.not_before_s <= now_s
        ]
        found.sort(key=lambda bar: self._timeframes.index(bar.timeframe))
        return found[:most]

    def done(self, bars: Iterable[BarSeries], asked_ms: int) -> None:
        """Note that these were fetched at `asked_ms` of the exchange's time; a series with a later broken bar is due
        again when that bar is over."""
        for bar in bars:
            need = self._needs.get(bar)
            if need is None:
                continue
            if need.last_end_ms + GRACE_MS <= asked_ms:
                del self._needs[bar]
            else:
                need.first_end_ms, need.failures = need.last_end_ms, 0

    def again(self, bars: Iterable[BarSeries], now_s: float) -> list[BarSeries]:
        """Note that these were not available, to retry them later; return series that failed too often, which are not
        retried."""
        lost = []
        for bar in bars:
            need = self._needs.setdefault(bar, _Need())
            need.failures += 1
            need.not_before_s = now_s + _BACKOFF.wait_s(need.failures)
            if need.failures > _MOST_FAILURES:
                del self._needs[bar]
                lost.append(bar)
        return lost

    def keep(self, symbols: Collection[str]) -> None:
        """Drop symbols that are not followed any more."""
        self._needs = {bar: need for bar, need in self._needs.items() if bar.symbol in symbols}
