"""The `feed` role: everything in this package put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

import aiohttp
import structlog
from aiokafka.errors import KafkaError
from rich.console import Console

from app.clock import Clock
from app.cooldown import connect_redis
from app.database.minute_runs import stored_runs
from app.exchange.backfill import HISTORY_MINUTES, Backfill, BackfillTimes
from app.exchange.connection import Patience
from app.exchange.connections import Connections
from app.exchange.coverage import Coverage
from app.exchange.exchange_clock import ExchangeClock
from app.exchange.followed import Universe
from app.exchange.gap_reader import read_gaps
from app.exchange.inbox import Inbox
from app.exchange.progress import MinutesProgress
from app.exchange.pump import Pump, SharedPublisher
from app.exchange.rate_limit import RateLimit
from app.exchange.rest import RestClient
from app.exchange.ticker_feed import TickerFeed
from app.exchange.venue import Listing
from app.exchange.venues import rest_url_of, venue_of, ws_url_of
from app.exchange.warm_up import SendRecord, WarmUp
from app.ingress.publish import CandlePublisher, candle_publisher
from app.kafka import ensure_topics, kafka_producer
from app.settings import Settings
from app.tickers import Ticker, TickerStore
from app.topics import Topics

_FIRST_WEIGHT_LIMIT: Final = 1_200
"""Until the exchange has told its own."""
_READY_EVERY_S: Final = 0.2
_DRAIN_S: Final = 5.0
_OWED_MINUTES: Final = HISTORY_MINUTES + 60
log = structlog.get_logger("feed")


class Feed:
    """One exchange's market into NATS and Redis. `run` until the event is set."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        session: aiohttp.ClientSession,
        publisher: CandlePublisher,
        tickers: TickerStore,
        send_bars: SendRecord,
        *,
        patience: Patience | None = None,
        times: BackfillTimes | None = None,
    ) -> None:
        """patience, times: shorter ones for tests."""
        self._settings = settings
        venue = venue_of(settings)
        rest = RestClient(session, venue, rest_url_of(settings, venue), RateLimit(_FIRST_WEIGHT_LIMIT))
        coverage = Coverage(_OWED_MINUTES)
        exchange_clock = ExchangeClock()
        live: set[str] = set()
        self._publisher = SharedPublisher(publisher, coverage)
        inbox = Inbox()
        self._pump = Pump(venue, inbox, self._publisher, live, exchange_clock, clock)
        self._tickers = TickerFeed(venue, rest.get, tickers, clock)
        self._connections = Connections(
            session,
            venue,
            ws_url_of(settings, venue),
            inbox.add,
            inbox.room,
            self._tickers.take,
            patience or Patience(stale_s=settings.exchange_stale_s),
        )
        self._backfill = Backfill(
            venue,
            rest.get,
            self._publisher,
            coverage,
            live,
            exchange_clock,
            partial(stored_runs, settings),
            MinutesProgress(Console(stderr=True)),
            times or BackfillTimes(),
        )
        self._universe = Universe(
            venue,
            rest.get,
            rest.limit,
            settings.exchange_symbols,
            settings.exchange_refresh_s,
            self._follow,
        )
        self._warm_up = WarmUp(venue, rest.get, exchange_clock, live, settings.partitions, send_bars)
        self.live = live
        """The symbols whose candles go on as they come."""

    def facts(self) -> dict[str, Any]:
        """JSON-able: what it does and what it lacks."""
        return {
            "connections": self._connections.facts(),
            "followed": len(self._universe.symbols),
            "live": len(self.live),
            "owed_minutes": self._backfill.owed_minutes,
            "universe_failures": self._universe.failures,
        }

    @property
    def ready(self) -> bool:
        """Candles come in and go on."""
        return self._connections.any_klines_open and bool(self.live)

    async def run(self, stop: asyncio.Event, on_ready: Callable[[bool], None] | None = None) -> None:
        """What was read by the stop is acknowledged by NATS when it returns, if NATS answers within seconds.

        Raises ServerError if JetStream refuses candles for good.
        """
        parts = {
            "pump-read": self._pump.read(),
            "pump-send": self._pump.send(),
            "backfill": self._backfill.run(),
            "tickers": self._tickers.run(),
            "universe": self._universe.run(self._backfill.refused),
            "gaps": read_gaps(self._settings, self._backfill.report),
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
            await _end(tasks["universe"])
            await self._connections.close()
            await _end(*tasks.values())
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
            log.warning("not_drained", policy="what is missing is fetched at the next start")


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def opened_feed(
    settings: Settings,
    clock: Clock,
    *,
    patience: Patience | None = None,
    times: BackfillTimes | None = None,
) -> AsyncIterator[Feed]:
    """A feed with its connections to NATS and Redis. Raises SettingsError for an exchange that is not known,
    ServerUnreachable if NATS or Kafka does not answer."""
    venue_of(settings)
    async with AsyncExitStack() as resources:
        await ensure_topics(settings)
        publisher = await resources.enter_async_context(
            candle_publisher(settings, "feed", forming_per_message=settings.forming_per_message)
        )
        redis = connect_redis(settings.server_urls().redis)
        resources.push_async_callback(redis.aclose)
        session = await resources.enter_async_context(aiohttp.ClientSession())
        producer = await resources.enter_async_context(kafka_producer(settings))

        async def send_bars(partition: int, record: bytes) -> None:
            try:
                await producer.send_and_wait(
                    Topics.of(settings).candles, record, key=str(partition).encode(), partition=partition
                )
            except KafkaError as error:
                log.warning("indicator_bars_not_sent", partition=partition, error=repr(error))

        store = TickerStore(redis, settings)
        yield Feed(settings, clock, session, publisher, store, send_bars, patience=patience, times=times)


async def run_feed(
    settings: Settings, clock: Clock, stop: asyncio.Event, on_ready: Callable[[bool], None] | None = None
) -> None:
    """The role: runs until `stop`; an exchange that cannot be reached is tried for ever, and said in the log."""
    async with opened_feed(settings, clock) as feed:
        await feed.run(stop, on_ready)
