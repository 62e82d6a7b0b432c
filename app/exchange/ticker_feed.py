"""24 h tickers from the exchange into Redis, for as long as both are there."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

import structlog
from redis.exceptions import RedisError

from app.clock import Clock
from app.errors import ExchangeError
from app.exchange.answers import reading_answer
from app.exchange.venue import Get, Venue
from app.tickers import Ticker, TickerStore

_WRITE_EVERY_S: Final = 1.0
log = structlog.get_logger("feed")


class TickerFeed:
    """`take` gets frames of the ticker stream; `run`, until cancelled, writes what they said, the newest of each
    symbol once a second. Where there is no such stream it asks over REST."""

    def __init__(self, venue: Venue, get: Get, store: TickerStore, clock: Clock) -> None:
        self._venue = venue
        self._get = get
        self._store = store
        self._clock = clock
        self._followed: frozenset[str] = frozenset()
        self._waiting: dict[str, Ticker] = {}
        self._newest_ms: dict[str, int] = {}
        """Event time of the newest ticker of each symbol: what REST says may be older than what a stream said."""
        self._degraded = False

    async def follow(self, symbols: Collection[str]) -> None:
        """Tickers of other symbols are left out, and those of symbols not followed any more are removed."""
        gone = self._followed - frozenset(symbols)
        self._followed = frozenset(symbols)
        for symbol in gone:
            self._newest_ms.pop(symbol, None)
        try:
            known = {ticker.symbol for ticker in await self._store.read()}
            await self._store.remove(gone | (known - self._followed))
        except (RedisError, OSError) as error:
            log.warning("tickers_not_removed", error=repr(error))

    def take(self, frame: bytes) -> None:
        self.put(self._venue.read([frame], self._clock.now_ms()).tickers)

    def put(self, tickers: Collection[Ticker]) -> None:
        for one in tickers:
            if one.symbol in self._followed and one.event_ts_ms >= self._newest_ms.get(one.symbol, 0):
                self._newest_ms[one.symbol] = one.event_ts_ms
                self._waiting[one.symbol] = one

    async def run(self) -> None:
        poll_s = self._venue.ticker_poll_s
        while True:
            await asyncio.sleep(_WRITE_EVERY_S if poll_s is None else poll_s)
            if poll_s is not None:
                await self._ask()
            await self._write()

    async def _ask(self) -> None:
        try:
            with reading_answer(self._venue, "tickers"):
                tickers = await self._venue.tickers(self._get)
            self.put(tickers)
        except ExchangeError as error:
            log.warning("tickers_unavailable", error=str(error))

    async def _write(self) -> None:
        """What Redis does not take is replaced by what comes next."""
        waiting, self._waiting = self._waiting, {}
        try:
            await self._store.write(list(waiting.values()))
        except (RedisError, OSError) as error:
            if not self._degraded:
                log.warning("tickers_not_written", error=repr(error))
            self._degraded = True
        else:
            self._degraded = False
