"""24 h tickers from the exchange into Redis, while both are available."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

import structlog
from redis.exceptions import RedisError

from app.candles.validity import is_time
from app.clock import Clock
from app.errors import ExchangeError
from app.feed.exchanges.answers import reading_answer
from app.feed.exchanges.exchange import Get, Venue
from app.wire.retry import OutageLog
from app.wire.tickers import Ticker, TickerStore

_WRITE_EVERY_S: Final = 1.0
log = structlog.get_logger("feed")


class TickerFeed:
    """`take` gets frames of the ticker stream; `run`, until cancelled, writes the newest ticker of each
    symbol once a second. Without a stream of tickers it polls REST."""

    def __init__(self, venue: Venue, get: Get, store: TickerStore, clock: Clock) -> None:
        self._venue = venue
        self._get = get
        self._store = store
        self._clock = clock
        self._followed: frozenset[str] = frozenset()
        self._waiting: dict[str, Ticker] = {}
        self._newest_ms: dict[str, int] = {}
        """Event time of the newest ticker of each symbol: REST may be older than the stream."""
        self._not_read = OutageLog(log, "tickers_unavailable")
        self._not_written = OutageLog(log, "tickers_not_written")
        self._odd_time: Ticker | None = None
        """A ticker since the last write that was left out because its time is invalid."""

    async def follow(self, symbols: Collection[str]) -> None:
        """Leave out tickers of other symbols, and remove the tickers of symbols not followed any more."""
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
            if not is_time(one.event_ts_ms):
                self._odd_time = one
            elif one.symbol in self._followed and one.event_ts_ms >= self._newest_ms.get(one.symbol, 0):
                # a time that is too late must not make later ones look old
                self._newest_ms[one.symbol] = min(one.event_ts_ms, self._clock.now_ms())
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
        except ExchangeError as error:
            self._not_read.failed(error)
        else:
            self._not_read.over()
            self.put(tickers)

    async def _write(self) -> None:
        """Write the tickers. Values that Redis does not accept are replaced by the next values."""
        odd, self._odd_time = self._odd_time, None
        if odd is not None:
            said = f"the time of {odd.symbol}'s ticker, {odd.event_ts_ms}, is not between 2010 and 2100"
            self._not_read.failed(ExchangeError(said))
        waiting, self._waiting = self._waiting, {}
        try:
            await self._store.write(list(waiting.values()))
        except (RedisError, OSError) as error:
            self._not_written.failed(error)
        else:
            self._not_written.over()
