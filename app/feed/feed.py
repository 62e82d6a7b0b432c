"""The feed: the parts of this package, put together and run at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict

import aiohttp
import structlog
from rich.console import Console

from app.candles.known_minutes import Gap
from app.clock import Clock
from app.feed.exchange_clock import ExchangeClock
from app.feed.exchanges.exchange import Listing
from app.feed.exchanges.rate_limit import RateLimit
from app.feed.exchanges.rest import RestClient
from app.feed.exchanges.venues import ExchangeAccess
from app.feed.frame_queue import FrameQueue
from app.feed.history.backfill import HISTORY_MINUTES, Backfill, BackfillTimes
from app.feed.history.coverage import Coverage
from app.feed.history.fetch_progress import MinutesProgress
from app.feed.history.warm_up import SendRecord, WarmUp
from app.feed.pump import Pump, SharedPublisher
from app.feed.sockets.connection import SocketTimes
from app.feed.sockets.connections import ConnectionFacts, Connections
from app.feed.ticker_feed import TickerFeed
from app.feed.universe import FollowedSymbols
from app.process.tasks import ended
from app.telemetry import FeedMetrics
from app.wire.nats.publish import CandlePublisher
from app.wire.tickers import Ticker, TickerStore

_FIRST_WEIGHT_LIMIT: Final = 1_200
"""Used until the exchange tells its own limit."""
_READY_EVERY_S: Final = 0.2
_DRAIN_S: Final = 5.0
_OWED_MINUTES: Final = HISTORY_MINUTES + 60
log = structlog.get_logger("feed")


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """A feed's symbols and options."""

    exchange: ExchangeAccess
    symbols_max: int
    """Most symbols that are followed."""
    refresh_s: float
    """How often the list of symbols is requested again."""
    tradifi: bool
    """Whether markets with closing hours are followed too."""
    stale_s: float
    """A connection that is silent for this long is reopened."""
    partitions: int


class FeedFacts(TypedDict):
    """followed, live: number of symbols. owed_minutes: number of missing minutes. clock_offset_ms: the exchange's clock
    minus this machine's, None before its first answer."""

    broken_bars: int
    clock_offset_ms: int | None
    connections: list[ConnectionFacts]
    followed: int
    live: int
    owed_minutes: int
    universe_failures: int


@dataclass(frozen=True, slots=True)
class FeedEdges:
    """A feed's connections to the outside."""

    session: aiohttp.ClientSession
    publisher: CandlePublisher
    tickers: TickerStore
    send_bars: SendRecord
    stored_runs: Callable[[Sequence[str], int], Awaitable[list[Gap]]]
    """Runs of minutes that the database has of these symbols since a time (UTC ms)."""
    read_gaps: Callable[[Callable[[Gap], object]], Coroutine[Any, Any, None]]
    """Passes on the minutes that the collector reports missing, until cancelled."""


class Feed:
    """Brings the market of one exchange into NATS and Redis. `run` until the event is set."""

    def __init__(
        self,
        options: FeedOptions,
        edges: FeedEdges,
        clock: Clock,
        metrics: FeedMetrics,
        *,
        patience: SocketTimes | None = None,
        times: BackfillTimes | None = None,
    ) -> None:
        """patience, times: shorter ones for tests."""
        venue = options.exchange.venue
        limit = RateLimit(_FIRST_WEIGHT_LIMIT, metrics)
        rest = RestClient(edges.session, venue, options.exchange.rest_url, limit, metrics)
        self._read_gaps = edges.read_gaps
        coverage = Coverage(_OWED_MINUTES)
        exchange_clock = ExchangeClock(clock)
        self._exchange_clock = exchange_clock
        live: set[str] = set()
        self._publisher = SharedPublisher(edges.publisher, coverage)
        inbox = FrameQueue()
        self._pump = Pump(venue, inbox, self._publisher, live, exchange_clock, clock, metrics)
        self._tickers = TickerFeed(venue, rest.get, edges.tickers, clock)
        self._connections = Connections(
            edges.session,
            venue,
            options.exchange.ws_url,
            inbox.add,
            inbox.room,
            self._tickers.take,
            patience or SocketTimes(stale_s=options.stale_s),
            metrics,
        )
        self._warm_up = WarmUp(
            venue, rest.get, exchange_clock, live, options.partitions, edges.send_bars, metrics
        )
        self._backfill = Backfill(
            venue,
            rest.get,
            self._publisher,
            coverage,
            live,
            exchange_clock,
            edges.stored_runs,
            MinutesProgress(Console(stderr=True)),
            times or BackfillTimes(),
            metrics,
            self._warm_up.given_up,
        )
        self._universe = FollowedSymbols(
            venue,
            rest.get,
            limit,
            options.symbols_max,
            options.refresh_s,
            self._follow,
            metrics,
            tradifi=options.tradifi,
        )
        self.live = live
        """The symbols whose candles are published as they come."""

    def facts(self) -> FeedFacts:
        """Return the state of the connections, the number of symbols, and the missing minutes."""
        return {
            "broken_bars": self._warm_up.waiting_bars,
            "clock_offset_ms": self._exchange_clock.offset_ms,
            "connections": self._connections.facts(),
            "followed": len(self._universe.symbols),
            "live": len(self.live),
            "owed_minutes": self._backfill.owed_minutes,
            "universe_failures": self._universe.failures,
        }

    @property
    def position(self) -> tuple[int, int]:
        """(number of the next message for NATS, number of the first message that NATS has not confirmed)."""
        return self._publisher.position

    @property
    def ready(self) -> bool:
        """Whether candles come in and are published."""
        return self._connections.any_klines_open and bool(self.live)

    async def run(self, stop: asyncio.Event, on_ready: Callable[[bool], None] | None = None) -> None:
        """Run until stopped. When it returns NATS has acknowledged all read candles, if it answers within seconds.

        Raises ServerError if JetStream refuses candles for good.
        """
        parts = {
            "pump-read": self._pump.read(),
            "pump-send": self._pump.send(),
            "backfill": self._backfill.run(),
            "tickers": self._tickers.run(),
            "universe": self._universe.run(self._backfill.refused),
            "gaps": self._read_gaps(self._backfill.report),
            "warm-up": self._warm_up.run(),
            "ready": self._tell_ready(on_ready),
            "stop": stop.wait(),
        }
        tasks = {name: asyncio.create_task(part, name=name) for name, part in parts.items()}
        try:
            done, _ = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            # first, since it opens connections
            await ended(tasks["universe"])
            await self._connections.close()
            await ended(*tasks.values())
            await self._drain()

    async def _follow(self, listings: Sequence[Listing], tickers: Sequence[Ticker]) -> None:
        symbols = [listing.symbol for listing in listings]
        await self._tickers.follow(symbols)
        self._tickers.put(tickers)
        await self._backfill.follow(listings)
        await self._connections.follow(symbols)
        self._warm_up.follow(symbols)

    async def _tell_ready(self, on_ready: Callable[[bool], None] | None) -> None:
        told = False
        while True:
            self._connections.raise_failure()
            if self.ready != told:
                told = self.ready
                log.info("feed_ready" if told else "feed_not_ready", connections=self._connections.facts())
                if on_ready:
                    on_ready(told)
            await asyncio.sleep(_READY_EVERY_S)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(_DRAIN_S):
                await self._pump.drain()
        except TimeoutError:
            log.warning("not_drained", policy="the next start fetches missing minutes")
