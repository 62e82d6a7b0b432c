"""The exchange as its servers see it: its time, contracts, candles of the past, and the minute that forms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from app.candles.batch import MINUTE_MS
from app.clock import Clock
from app.local.exchange.history import Asked, History, Klines
from app.local.exchange.listings import TradedContracts
from app.local.exchange.market.market import DAY_MINUTES, Market
from app.local.exchange.market.path import MinutePath, walk
from app.local.exchange.market.planes import Planes, merged

Result = TypeVar("Result")


class Exchange:
    """Prices and candles of all contracts. Call `turn_to` for each minute in order, and anything else in between.

    Long computations run on threads, one call at a time, so that they neither block the loop nor run twice.
    """

    def __init__(self, market: Market, clock: SimulatedClock, history_days: int) -> None:
        self.market = market
        self.clock = clock
        now_minute = clock.now_ms() // MINUTE_MS
        self.history = History(market, now_minute // DAY_MINUTES - history_days)
        self.listings = TradedContracts(market, self.history.first_minute)
        self.tick = np.array([10.0**-contract.price_decimals for contract in market.contracts])
        self.per_unit = np.array([10.0**contract.price_decimals for contract in market.contracts])
        self.lot = np.array([10.0**-contract.quantity_decimals for contract in market.contracts])
        self._requests = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._turning = ThreadPoolExecutor(1, thread_name_prefix="market")
        self._today = History(market, self.history.first_minute // DAY_MINUTES, kept_bytes=0, kept_days=1)
        """For the next minute alone, which must not wait for requests."""
        self._path: MinutePath | None = None
        self.minute = now_minute
        """The minute that forms."""
        self._next: tuple[int, asyncio.Future[MinutePath]] | None = None
        self._day_bars: tuple[int, asyncio.Future[Planes]] | None = None

    def close(self) -> None:
        for thread in (self._requests, self._turning):
            thread.shutdown(wait=True, cancel_futures=True)

    async def turn_to(self, minute: int) -> None:
        """Make `minute` the minute that forms, and prepare the next one."""
        if self._next is None or self._next[0] != minute:
            self._next = (minute, self._prepare(minute))
        self._path = await self._next[1]
        self.minute = minute
        self._next = (minute + 1, self._prepare(minute + 1))

    @property
    def forming_minute(self) -> MinutePath:
        """The prices within the minute that forms. Raises RuntimeError before the first `turn_to`."""
        if self._path is None:
            raise RuntimeError("the exchange has no current minute yet")
        return self._path

    def forming(self, now_ms: int) -> Planes:
        """Return the candles of the minute that forms as they stand, shape (contracts,); empty where not traded."""
        elapsed_ms = max(0, now_ms - self.minute * MINUTE_MS)
        if elapsed_ms >= MINUTE_MS:
            return self.closed()
        planes = self.forming_minute.at(elapsed_ms / MINUTE_MS, self.lot, self.tick)
        return planes.without(~self.listings.traded(self.minute))

    def closed(self) -> Planes:
        """Return the candles of the minute that forms as they will close, shape (contracts,)."""
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
        """Return the closed minutes of the bars that form, shape (contracts,)."""
        minute = self.minute
        return await self._compute(lambda: self.history.bars_so_far(interval, minute, self.listings.first))

    async def day_bars(self) -> Planes:
        """Return the last 24 hours of each contract as one bar, with the minute that forms; shape (contracts,)."""
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


class SimulatedClock:
    """A clock that starts at `start_ms` and runs `speed` times as fast as `clock`; started in the past, it never
    overtakes `clock`.

    Readers reject candles from the future, so a market that is played fast begins in the past and ends up at the
    present. start_ms: UTC ms, None for now.
    """

    def __init__(self, clock: Clock, start_ms: int | None = None, speed: float = 1.0) -> None:
        self._clock = clock
        self._speed = speed
        self._began_ms = clock.now_ms()
        self._start_ms = self._began_ms if start_ms is None else start_ms
        self._bounded = self._start_ms <= self._began_ms

    def now_ms(self) -> int:
        wall_ms = self._clock.now_ms()
        now_ms = self._start_ms + int((wall_ms - self._began_ms) * self._speed)
        return min(now_ms, wall_ms) if self._bounded else now_ms

    @property
    def speed(self) -> float:
        return self._speed
