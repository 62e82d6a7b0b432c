"""Fetches owed minutes: closed minutes that are missing, from the exchange's REST klines.

A symbol begins with its history: its candles from sockets are published only after the minutes before them, so
that every later stage gets them in order. Histories of many symbols are published together, minute by minute:
the stages keep a value per minute of all symbols, which a day of one symbol after the other would write hundreds of
times over. After that, every minute that does not come by itself, or that the collector reports missing, is requested
until it is there or the exchange has not had it for a long time. When a symbol is not followed any more, the minute of
that moment is owed too: the symbol is forgotten once the exchange was asked for this minute after its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import structlog

from app.candles.batch import MINUTE_MS, CandleBatch, concatenate
from app.candles.known_minutes import Gap
from app.errors import ExchangeError, ExchangeRefused
from app.feed.exchange_clock import GRACE_MS, ExchangeClock, TimeWatch
from app.feed.exchanges.exchange import Get, Listing, Venue
from app.feed.history.coverage import Coverage
from app.feed.history.fetch_progress import MinutesProgress
from app.feed.history.minute_requests import MinuteRequests
from app.feed.pump import SharedPublisher
from app.process.tasks import together
from app.telemetry import FeedMetrics

HISTORY_MINUTES: Final = 1_441
"""A day, and the minute that its price change starts from."""
_AT_ONCE: Final = 8
"""Requests for histories, and for other owed minutes, on their way at the same time."""
_TOGETHER: Final = 100
"""Histories that are published together: no symbol continues before all of them are fetched."""
_ROWS_AT_ONCE: Final = 5_000
_TICK_S: Final = 0.5
log = structlog.get_logger("feed")


@dataclass(frozen=True, slots=True, order=True)
class _History:
    """rank: by turnover, the largest first."""

    rank: int
    symbol: str
    onboard_ms: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class BackfillTimes:
    """give_up_s: how long a minute that the exchange does not have is asked for."""

    give_up_s: float = 900.0


StoredRuns = Callable[[Sequence[str], int], Awaitable[list[Gap]]]
"""(symbols, since_ms) -> runs of minutes that are in the database."""


class Backfill:
    """Fetches and publishes owed minutes: `run` until cancelled. `follow` sets the symbols whose minutes are owed; a
    symbol enters `live` after its history."""

    def __init__(
        self,
        venue: Venue,
        get: Get,
        publisher: SharedPublisher,
        coverage: Coverage,
        live: set[str],
        exchange_clock: ExchangeClock,
        stored_runs: StoredRuns,
        progress: MinutesProgress,
        times: BackfillTimes,
        metrics: FeedMetrics,
        given_up: Callable[[Gap], None] = lambda _: None,
    ) -> None:
        """given_up: called with each run of minutes that is given up."""
        self._metrics = metrics
        self._coverage = coverage
        self._live = live
        self._exchange_clock = exchange_clock
        self._time = TimeWatch(venue, get, exchange_clock, metrics)
        self._stored_runs = stored_runs
        self._progress = progress
        self._requests = MinuteRequests(
            venue, get, publisher, coverage, exchange_clock, progress, times.give_up_s, metrics, given_up
        )
        self._jobs: asyncio.Queue[str] = asyncio.Queue()
        """Symbols whose minutes are to be requested; bounded, like `_histories`, by one job per symbol."""
        self._histories: asyncio.PriorityQueue[_History] = asyncio.PriorityQueue()
        self._busy: set[str] = set()
        """Symbols with a job that is waiting or being done."""
        self._beginning: set[str] = set()
        """Symbols whose history is on its way."""
        self._leaving: dict[str, int] = {}
        """Symbols that are not followed any more -> the last minute that is owed."""
        self._stored: dict[str, list[Gap]] = {}
        self.refused = asyncio.Event()
        """Set when the exchange refuses a request for a symbol, which may be gone."""

    @property
    def owed_minutes(self) -> int:
        return sum(self._coverage.owed_minutes().values())

    async def follow(self, listings: Sequence[Listing]) -> None:
        """Follow these contracts, largest first, and no others."""
        wanted = {listing.symbol for listing in listings}
        left = [symbol for symbol in self._coverage.symbols if symbol not in wanted | self._leaving.keys()]
        new = [
            (rank, listing)
            for rank, listing in enumerate(listings)
            if listing.symbol not in self._coverage and listing.symbol not in self._busy
        ]
        if left or new:
            await self._time.ask()
        self._leave(left)
        self._take_back(wanted & self._leaving.keys())
        if not new:
            return
        since_ms = self._exchange_clock.now_ms() - HISTORY_MINUTES * MINUTE_MS
        for run in await self._stored_runs([listing.symbol for _, listing in new], since_ms):
            self._stored.setdefault(run.symbol, []).append(run)
        for rank, listing in new:
            self._busy.add(listing.symbol)
            self._histories.put_nowait(_History(rank, listing.symbol, listing.onboard_ms))

    def _leave(self, symbols: Sequence[str]) -> None:
        """Stop following symbols. Their last minute is the present one: a contract may end within it, and the exchange
        keeps its candles."""
        last_ms = self._exchange_clock.now_ms() // MINUTE_MS * MINUTE_MS
        for symbol in symbols:
            self._live.discard(symbol)
            self._leaving[symbol] = last_ms
            self._coverage.end(symbol, last_ms)

    def _take_back(self, symbols: Iterable[str]) -> None:
        for symbol in symbols:
            del self._leaving[symbol]
            self._coverage.end(symbol, None)
            if symbol not in self._beginning:
                self._live.add(symbol)

    def report(self, gap: Gap) -> None:
        """Owe minutes again that a later stage lacks."""
        self._requests.report(gap)

    async def run(self) -> None:
        """Run until cancelled. Raises ServerError if JetStream refuses candles for good."""
        with self._progress.shown():
            async with asyncio.TaskGroup() as tasks:
                for number in range(_AT_ONCE):
                    tasks.create_task(self._work(), name=f"backfill-{number}")
                tasks.create_task(self._work_on_histories(), name="backfill-histories")
                tasks.create_task(self._watch(), name="backfill-watch")

    async def _watch(self) -> None:
        """Find owed minutes as the exchange's time continues."""
        passed_ms = 0
        while True:
            # minutes that are over in this pass count at the next one, so that candles on their way arrive in between
            self._coverage.pass_time(passed_ms)
            now_ms = self._exchange_clock.now_ms()
            passed_ms = now_ms - GRACE_MS
            owed = self._coverage.owed_minutes()
            self._metrics.owed_minutes.set(sum(owed.values()))
            for symbol in owed:
                if symbol not in self._busy and self._requests.is_due(symbol):
                    self._busy.add(symbol)
                    self._jobs.put_nowait(symbol)
            for symbol in self._leaving.keys() - owed.keys() - self._busy:
                self._forget_if_over(symbol)
            if not self._busy:
                self._progress.settle()
            await asyncio.sleep(_TICK_S)
            await self._time.ask_if_due()

    async def _work(self) -> None:
        while True:
            symbol = await self._jobs.get()
            try:
                await self._fill(symbol)
            except ExchangeError as error:
                self._failed(symbol, "FILL", error)
            finally:
                self._busy.discard(symbol)

    async def _work_on_histories(self) -> None:
        while True:
            together = [await self._histories.get()]
            while len(together) < _TOGETHER and not self._histories.empty():
                together.append(self._histories.get_nowait())
            symbols = [history.symbol for history in together]
            self._beginning.update(symbols)
            try:
                for history in together:
                    self._begin(history)
                await self._publish_histories(symbols)
            finally:
                # even if its history failed: owed minutes are requested again, and live candles need not wait for them
                self._live.update(symbol for symbol in symbols if symbol not in self._leaving)
                self._beginning.clear()
                self._busy.difference_update(symbols)

    async def _publish_histories(self, symbols: Sequence[str]) -> None:
        asked = {symbol: self._requests.owed(symbol) for symbol in symbols}
        turns = asyncio.Semaphore(_AT_ONCE)

        async def fetched(symbol: str) -> list[CandleBatch]:
            async with turns:
                try:
                    return [page async for page in self._requests.pages(symbol)]
                except ExchangeError as error:
                    self._failed(symbol, "HISTORY", error)
                    asked.pop(symbol)
                    return []

        pages = [page for found in await together(*map(fetched, symbols)) for page in found]
        if pages:
            bars = concatenate(pages)
            bars = bars.take(np.argsort(bars.open_time_ms, kind="stable"))
            for first in range(0, len(bars), _ROWS_AT_ONCE):
                await self._requests.publish(
                    bars.take(np.arange(first, min(first + _ROWS_AT_ONCE, len(bars))))
                )
        for symbol, minutes in asked.items():
            self._requests.answered(symbol, minutes)

    def _failed(self, symbol: str, kind: str, error: ExchangeError) -> None:
        self._requests.failed(symbol)
        if isinstance(error, ExchangeRefused):
            self.refused.set()
            self._forget_if_over(symbol)
        log.warning("backfill_failed", symbol=symbol, kind=kind, error=str(error))

    def _begin(self, history: _History) -> None:
        """Owe every minute of the last day, except minutes in the database."""
        now_ms = self._exchange_clock.now_ms()
        # an exchange that lists a contract as trading since the future is wrong about the time
        first_ms = max(now_ms - HISTORY_MINUTES * MINUTE_MS, min(history.onboard_ms, now_ms))
        self._coverage.expect(history.symbol, -(-first_ms // MINUTE_MS) * MINUTE_MS)
        over_ms = now_ms - MINUTE_MS
        for run in self._stored.pop(history.symbol, ()):
            if run.first_ms <= over_ms:
                self._coverage.take_run(Gap(run.symbol, run.first_ms, min(run.last_ms, over_ms)))
        self._coverage.pass_time(now_ms, [history.symbol])
        self._progress.want(len(self._requests.owed(history.symbol)))

    async def _fill(self, symbol: str) -> None:
        """Request all owed minutes of a symbol once."""
        asked = self._requests.owed(symbol)
        last_asked = self._leaving.get(symbol) in asked
        async for bars in self._requests.pages(symbol):
            await self._requests.publish(bars)
        self._requests.answered(symbol, asked)
        if last_asked:
            self._forget_if_over(symbol)

    def _forget_if_over(self, symbol: str) -> None:
        """Forget a symbol that is not followed any more, once its last minute has ended."""
        last_ms = self._leaving.get(symbol)
        if last_ms is None or not self._coverage.has_reached(symbol, last_ms):
            return
        del self._leaving[symbol]
        self._coverage.forget(symbol)
        self._exchange_clock.forget(symbol)
        self._requests.forget(symbol)
        self._stored.pop(symbol, None)
