"""Bars of longer timeframes, for indicators that a day of minutes cannot warm up or that a missing minute has broken.

They go straight to the calculator, by [candles]: they are not candles of minutes, so the bridge and the collector do
not handle them. Many symbols share a record, since the calculator computes the last day of a symbol again from them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from app.candles.batch import MINUTE_MS, CandleBatch, concatenate
from app.candles.known_minutes import Gap
from app.errors import ExchangeError, ExchangeRefused
from app.feed.exchange_clock import ExchangeClock
from app.feed.exchanges.exchange import Get, Venue
from app.feed.exchanges.klines import klines_page
from app.feed.history.broken_bars import BarSeries, BrokenBars
from app.market.timeframes import TIMEFRAMES, WARM_UP_BARS, WARMED_BY_BARS
from app.process.tasks import together
from app.telemetry import FeedMetrics
from app.wire.frames import encode_bars
from app.wire.topics import shard_of

_SYMBOLS_PER_RECORD: Final = 50
"""Some 15,000 bars, 2 MB."""
_AT_ONCE: Final = 4
_LOOK_EVERY_S: Final = 1.0
_REPAIRS_A_SECOND: Final = 4
"""Requests for broken bars: after an outage of the exchange all symbols need them, and minutes come first. On Binance
this is a fifth of the limit."""

SendRecord = Callable[[int, bytes], Awaitable[bool]]
"""(partition of [candles], record); returns when Kafka has it, or False if it did not take it."""
log = structlog.get_logger("feed")


class WarmUp:
    """Fetches bars and sends them to the calculator: `run` until cancelled. `follow` sets the symbols; each is warmed
    up once after its history, and again when minutes of it are `given_up`."""

    def __init__(
        self,
        venue: Venue,
        get: Get,
        exchange_clock: ExchangeClock,
        live: set[str],
        partitions: int,
        send: SendRecord,
        metrics: FeedMetrics,
    ) -> None:
        self._venue = venue
        self._get = get
        self._exchange_clock = exchange_clock
        self._live = live
        self._partitions = partitions
        self._send = send
        self._metrics = metrics
        self._waiting: list[str] = []
        self._known: set[str] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._broken = BrokenBars([one for one in WARMED_BY_BARS if one in venue.intervals])

    @property
    def waiting_bars(self) -> int:
        """Bars to be fetched because of missing minutes, including bars that are not over yet."""
        return len(self._broken)

    def follow(self, symbols: Sequence[str]) -> None:
        self._waiting = [symbol for symbol in self._waiting if symbol in symbols]
        self._known &= set(symbols)
        self._broken.keep(self._known)
        new = [symbol for symbol in symbols if symbol not in self._known]
        self._known.update(new)
        self._waiting += new

    def given_up(self, gap: Gap) -> None:
        """Note minutes that the exchange does not have; it may still have the bars that contain them."""
        if gap.symbol in self._known:
            self._broken.note(gap)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            chosen = self._waiting[:_SYMBOLS_PER_RECORD]
            if chosen and self._live.issuperset(chosen):
                del self._waiting[: len(chosen)]
                await self._begin(chosen)
            else:
                await self._repair()
            self._metrics.broken_bars.set(len(self._broken))

    async def _begin(self, symbols: Sequence[str]) -> None:
        for timeframe in WARMED_BY_BARS:
            if timeframe in self._venue.intervals:
                failed = await self._warm_up(timeframe, symbols)
                self._broken.again([BarSeries(timeframe, symbol) for symbol in failed], time.monotonic())
        log.info("indicator_bars_sent", symbols=len(symbols), left=len(self._waiting))

    async def _repair(self) -> None:
        """Fetch some of the due bars, for about a second at most."""
        asked_ms = self._exchange_clock.now_ms()
        due = self._broken.due(asked_ms, time.monotonic(), _REPAIRS_A_SECOND)
        for timeframe in dict.fromkeys(bar.timeframe for bar in due):
            symbols = [bar.symbol for bar in due if bar.timeframe == timeframe]
            failed = await self._warm_up(timeframe, symbols)
            lost = self._broken.again([BarSeries(timeframe, symbol) for symbol in failed], time.monotonic())
            if lost:
                log.warning(
                    "indicator_bars_given_up", timeframe=timeframe, symbols=[bar.symbol for bar in lost]
                )
            repaired = [symbol for symbol in symbols if symbol not in failed]
            self._broken.done([BarSeries(timeframe, symbol) for symbol in repaired], asked_ms)
            if repaired:
                self._metrics.repaired_bars.labels(timeframe=timeframe).inc(len(repaired))
                log.info("indicator_bars_repaired", timeframe=timeframe, symbols=repaired)

    async def _warm_up(self, timeframe: str, symbols: Sequence[str]) -> set[str]:
        """Send the available bars; return the symbols to be retried."""
        failed: set[str] = set()
        found = await together(*(self._bars(timeframe, symbol, failed) for symbol in symbols))
        by_shard: dict[int, list[CandleBatch]] = {}
        for bars in found:
            if bars is not None:
                by_shard.setdefault(shard_of(bars.symbols[0], self._partitions), []).append(bars)
        for shard, parts in by_shard.items():
            if not await self._send(shard, encode_bars(timeframe, concatenate(parts))):
                failed.update(part.symbols[0] for part in parts)
        return failed

    async def _bars(self, timeframe: str, symbol: str, failed: set[str]) -> CandleBatch | None:
        """Return the last closed, valid bars; None without any. failed: gets the
        symbol if the exchange did not answer."""
        length_ms = TIMEFRAMES[timeframe] * MINUTE_MS
        now_ms = self._exchange_clock.now_ms()
        last_ms = now_ms // length_ms * length_ms - length_ms
        first_ms = last_ms - (WARM_UP_BARS - 1) * length_ms
        async with self._slots:
            try:
                return await klines_page(self._venue, self._get, symbol, timeframe, first_ms, last_ms, now_ms)
            except ExchangeError as error:
                log.warning(
                    "indicator_bars_unavailable", symbol=symbol, timeframe=timeframe, error=str(error)
                )
                if not isinstance(error, ExchangeRefused):
                    failed.add(symbol)
                return None
