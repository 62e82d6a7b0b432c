"""History of many days: the exchange's own bars of long intervals, where the database lacks them.

Only the database records progress: stored bars are not requested again, so that it can be stopped at any moment and
called again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from app.candles.batch import MINUTE_MS, CandleBatch, IntArray
from app.errors import ExchangeRefused
from app.feed.exchanges.exchange import Get, Listing, Venue
from app.feed.exchanges.klines import klines_page
from app.market.timeframes import TIMEFRAMES

_AT_ONCE: Final = 4
log = structlog.get_logger("feed")

StoredBars = Callable[[str, str, int, int], Awaitable[IntArray]]
"""(timeframe, symbol, since_ms, until_ms) -> open times of the whole bars that are stored, sorted."""
StoreBars = Callable[[str, CandleBatch], Awaitable[int]]
"""(timeframe, bars) -> how many were stored."""


@dataclass(frozen=True, slots=True)
class Page:
    """Bars to request at once: first and last open time, UTC ms."""

    timeframe: str
    symbol: str
    first_ms: int
    last_ms: int


def missing_pages(
    timeframe: str, symbol: str, stored_ms: IntArray, first_ms: int, last_ms: int, page_bars: int
) -> Iterator[Page]:
    """Return requests of at most `page_bars` bars for the bars from `first_ms` to `last_ms` that are not stored.

    Stored bars between missing ones are requested again if they fit into a page: a request costs more than they do.
    """
    length_ms = TIMEFRAMES[timeframe] * MINUTE_MS
    stored = frozenset(stored_ms.tolist())
    missing = [start_ms for start_ms in range(first_ms, last_ms + 1, length_ms) if start_ms not in stored]
    at = 0
    while at < len(missing):
        begin_ms = end_ms = missing[at]
        while at < len(missing) and missing[at] < begin_ms + page_bars * length_ms:
            end_ms = missing[at]
            at += 1
        yield Page(timeframe, symbol, begin_ms, end_ms)


class LongHistory:
    """Fetches and stores pages, some at a time."""

    def __init__(self, venue: Venue, get: Get, stored: StoredBars, store: StoreBars) -> None:
        self._venue = venue
        self._get = get
        self._stored = stored
        self._store = store

    async def owed(
        self, timeframe: str, listings: Sequence[Listing], since_ms: int, now_ms: int
    ) -> list[Page]:
        """Return the requests for all bars that begin from `since_ms` on and are over at `now_ms`, UTC ms.

        There are no requests for a timeframe that the exchange does not have, or for the time before a symbol was
        listed.
        """
        if timeframe not in self._venue.intervals:
            return []
        length_ms = TIMEFRAMES[timeframe] * MINUTE_MS
        last_ms = now_ms // length_ms * length_ms - length_ms
        pages: list[Page] = []
        for listing in listings:
            begin_ms = max(since_ms, listing.onboard_ms)
            first_ms = -(-begin_ms // length_ms) * length_ms
            if first_ms > last_ms:
                continue
            stored_ms = await self._stored(timeframe, listing.symbol, first_ms, last_ms + 1)
            pages += missing_pages(
                timeframe, listing.symbol, stored_ms, first_ms, last_ms, self._venue.page_bars
            )
        return pages

    async def fetch(self, pages: Sequence[Page], now_ms: int, done: Callable[[int], None]) -> int:
        """Store the bars of these pages and return their number; call `done` with 1 for each finished page.

        A symbol that the exchange refuses is left out. Raises ExchangeError if the exchange does not answer for long,
        psycopg.Error; stored pages stay stored.
        """
        waiting = iter(pages)
        counts = [0] * _AT_ONCE

        async def work(number: int) -> None:
            for page in waiting:
                bars = await self._bars(page, now_ms)
                if bars is not None:
                    counts[number] += await self._store(page.timeframe, bars)
                done(1)

        async with asyncio.TaskGroup() as tasks:
            for number in range(_AT_ONCE):
                tasks.create_task(work(number))
        return sum(counts)

    async def _bars(self, page: Page, now_ms: int) -> CandleBatch | None:
        try:
            return await klines_page(
                self._venue, self._get, page.symbol, page.timeframe, page.first_ms, page.last_ms, now_ms
            )
        except ExchangeRefused as error:
            log.warning(
                "indicator_bars_unavailable", symbol=page.symbol, timeframe=page.timeframe, error=str(error)
            )
            return None
