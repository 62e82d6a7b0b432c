"""The exchange as its servers see it: contracts, candles of the past, and the minute that forms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from app.candles.batch import MINUTE_MS
from app.simexchange.history import Asked, History, Klines
from app.simexchange.listings import Listings
from app.simexchange.market.contracts import DAY_MINUTES
from app.simexchange.market.market import Market
from app.simexchange.market.path import MinutePath, walk
from app.simexchange.market.planes import Planes, merged
from app.simexchange.simulated_clock import SimulatedClock

Result = TypeVar("Result")


class Exchange:
    """Give it the minutes in order with `turn_to`; ask it for anything in between.

    What takes long is computed on threads, one call at a time, so that it neither blocks the loop nor runs twice.
    """

    def __init__(self, market: Market, clock: SimulatedClock, history_days: int) -> None:
        self.market = market
        self.clock = clock
        now_minute = clock.now_ms() // MINUTE_MS
        self.history = History(market, now_minute // DAY_MINUTES - history_days)
        self.listings = Listings(market, self.history.first_minute)
        self.tick = np.array([10.0**-contract.price_decimals for contract in market.contracts])
        self.per_unit = np.array([10.0**contract.price_decimals for contract in market.contracts])
        self.lot = np.array([10.0**-contract.quantity_decimals for contract in market.contracts])
        self._requests = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._turning = ThreadPoolExecutor(1, thread_name_prefix="market")
        self._today = History(market, self.history.first_minute // DAY_MINUTES, kept_bytes=0, kept_days=1)
        """For the next minute alone, which must not wait for requests."""
        self._path: MinutePath | None = None
        self.minute = now_minute
        """The one that forms."""
        self._next: tuple[int, asyncio.Future[MinutePath]] | None = None
        self._day_bars: tuple[int, asyncio.Future[Planes]] | None = None

    def close(self) -> None:
        for thread in (self._requests, self._turning):
            thread.shutdown(wait=True, cancel_futures=True)

    async def turn_to(self, minute: int) -> None:
        """Makes `minute` the one that forms, and gets the one after it ready."""
        if self._next is None or self._next[0] != minute:
            self._next = (minute, self._prepare(minute))
        self._path = await self._next[1]
        self.minute = minute
        self._next = (minute + 1, self._prepare(minute + 1))

    @property
    def forming_minute(self) -> MinutePath:
        """Raises RuntimeError before the first `turn_to`."""
        if self._path is None:
            raise RuntimeError("the exchange has not been turned to a minute yet")
        return self._path

    def forming(self, now_ms: int) -> Planes:
        """The candles of the minute that forms as they stand, shape (contracts,); none where not traded."""
        elapsed_ms = max(0, now_ms - self.minute * MINUTE_MS)
        if elapsed_ms >= MINUTE_MS:
            return self.closed()
        planes = self.forming_minute.at(elapsed_ms / MINUTE_MS, self.lot, self.tick)
        return planes.without(~self.listings.traded(self.minute))

    def closed(self) -> Planes:
        """The candles of the minute that forms as they will close, shape (contracts,)."""
        return self.forming_minute.whole.without(~self.listings.traded(self.minute))

    async def klines(self, contract: int, asked: Asked) -> Klines:
        first, end = int(self.listings.first[contract]), int(self.listings.end[contract])
        forming = None
        if first <= self.minute < end:
            forming = self.forming(self.clock.now_ms())[contract]
        closed = min(self.minute, end)
        for step in self.history.steps(contract, asked, first, closed):
            await self._compute(step)
        return await self._compute(lambda: self.history.klines(contract, asked, first, closed, forming))

    async def bars_so_far(self, interval: str) -> Planes:
        """The closed minutes of the bars that form, shape (contracts,)."""
        minute = self.minute
        return await self._compute(lambda: self.history.bars_so_far(interval, minute, self.listings.first))

    async def day_bars(self) -> Planes:
        """The last 24 hours of each contract as one bar, with the minute that forms; shape (contracts,)."""
        if self._day_bars is None or self._day_bars[0] != self.minute:
            minute = self.minute
            window = self._compute(
                lambda: self.history.window_bars(minute - DAY_MINUTES + 1, minute, self.listings.first)
            )
            self._day_bars = (minute, asyncio.ensure_future(window))
        minute, closed = self._day_bars[0], await asyncio.shield(self._day_bars[1])
        if minute != self.minute:
            return closed
        return merged(closed, self.forming(self.clock.now_ms()))

    async def _compute(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._requests, work)

    def _prepare(self, minute: int) -> asyncio.Future[MinutePath]:
        return asyncio.get_running_loop().run_in_executor(
            self._turning, lambda: walk(self._today.rows(minute, minute + 1)[0], self.market.seed, minute)
        )
