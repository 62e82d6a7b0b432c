"""The closed minutes of the longer bars that form, for the intervals that somebody wants."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from app.local.exchange.exchange import Exchange
from app.local.exchange.history import empty_bars
from app.local.exchange.intervals import bar_open, next_open
from app.local.exchange.market.planes import Planes, merged


class RunningBars:
    """The bars by interval: looked up once when an interval is first wanted, then updated with each minute."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._bars: dict[str, Planes] = {}
        self._loading: dict[str, tuple[int, asyncio.Task[Planes]]] = {}
        """Interval -> the minute it is looked up for, and the task that does."""

    def has(self, interval: str) -> bool:
        return interval == "1m" or interval in self._bars

    def with_minute(self, interval: str, minute: Planes) -> Planes:
        """Return the bar of `interval` up to and including the candles of `minute`; shapes (contracts,)."""
        return minute if interval == "1m" else merged(self._bars[interval], minute)

    def turn(self, minute: int, whole: Planes) -> None:
        """Add `minute`, which is over; a bar that ends with it is replaced by an empty one."""
        for interval, bars in self._bars.items():
            over = next_open(interval, bar_open(interval, minute)) == minute + 1
            self._bars[interval] = empty_bars(len(whole.open)) if over else merged(bars, whole)

    def want(self, intervals: Iterable[str]) -> None:
        """Look up the bars of `intervals` in the background, and drop all others. Call it again to get the results."""
        wanted = [interval for interval in intervals if interval != "1m"]
        for interval in self._bars.keys() - set(wanted):
            del self._bars[interval]
        for interval in wanted:
            if interval not in self._bars:
                self._look_up(interval)

    def cancel(self) -> None:
        for _, task in self._loading.values():
            task.cancel()
        self._loading.clear()

    def _look_up(self, interval: str) -> None:
        minute = self._exchange.minute
        loading = self._loading.get(interval)
        if loading is None or (loading[1].done() and loading[0] != minute):
            task = asyncio.create_task(self._exchange.bars_so_far(interval), name=f"bars of {interval}")
            self._loading[interval] = (minute, task)
        elif loading[1].done():
            self._bars[interval] = loading[1].result()
            del self._loading[interval]
