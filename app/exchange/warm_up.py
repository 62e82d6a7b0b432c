"""Bars of longer timeframes for the indicators: what minutes of one day cannot warm up.

They go straight to the calculator, by [candles]: they are no candles of minutes, so that neither the bridge nor the
collector has anything to do with them. Many symbols travel in one record, since the calculator computes a symbol's last
day anew from them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import numpy as np
import structlog

from app.candles.batch import MINUTE_MS, CandleBatch, concatenate
from app.errors import ExchangeError
from app.exchange.exchange_clock import ExchangeClock
from app.exchange.klines_page import klines_page
from app.exchange.venue import Get, Venue
from app.frames import encode_bars
from app.market.timeframes import TIMEFRAMES
from app.topics import shard_of

TIMEFRAMES_WARMED: Final = ("15m", "1h", "4h", "8h", "1d")
"""A day of minutes has enough of the shorter ones."""
_BARS: Final = 300
"""An EMA of 50 has forgotten what it began with to 1e-5 after them."""
_SYMBOLS_PER_RECORD: Final = 50
"""Some 15,000 bars, 2 MB."""
_AT_ONCE: Final = 4
_LOOK_EVERY_S: Final = 1.0

SendRecord = Callable[[int, bytes], Awaitable[None]]
"""(partition of [candles], record); returns when Kafka has it."""
log = structlog.get_logger("feed")


class WarmUp:
    """`run` until cancelled; `follow` says which symbols there are. Each is warmed up once, after its history."""

    def __init__(
        self,
        venue: Venue,
        get: Get,
        exchange_clock: ExchangeClock,
        live: set[str],
        partitions: int,
        send: SendRecord,
    ) -> None:
        self._venue = venue
        self._get = get
        self._exchange_clock = exchange_clock
        self._live = live
        self._partitions = partitions
        self._send = send
        self._waiting: list[str] = []
        self._known: set[str] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def follow(self, symbols: Sequence[str]) -> None:
        self._waiting = [symbol for symbol in self._waiting if symbol in symbols]
        self._known &= set(symbols)
        new = [symbol for symbol in symbols if symbol not in self._known]
        self._known.update(new)
        self._waiting += new

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            chosen = self._waiting[:_SYMBOLS_PER_RECORD]
            if not chosen or not self._live.issuperset(chosen):
                continue
            del self._waiting[: len(chosen)]
            for timeframe in TIMEFRAMES_WARMED:
                if timeframe in self._venue.intervals:
                    await self._warm_up(timeframe, chosen)
            log.info("indicator_bars_sent", symbols=len(chosen), left=len(self._waiting))

    async def _warm_up(self, timeframe: str, symbols: Sequence[str]) -> None:
        found = await asyncio.gather(*(self._bars(timeframe, symbol) for symbol in symbols))
        by_shard: dict[int, list[CandleBatch]] = {}
        for bars in found:
            if bars is not None:
                by_shard.setdefault(shard_of(bars.symbols[0], self._partitions), []).append(bars)
        for shard, parts in by_shard.items():
            await self._send(shard, encode_bars(timeframe, concatenate(parts)))

    async def _bars(self, timeframe: str, symbol: str) -> CandleBatch | None:
        """The last closed bars, those with sound prices; None if there are none to be had."""
        length_ms = TIMEFRAMES[timeframe] * MINUTE_MS
        last_ms = self._exchange_clock.now_ms() // length_ms * length_ms - length_ms
        first_ms = last_ms - (_BARS - 1) * length_ms
        async with self._slots:
            try:
                bars = await klines_page(self._venue, self._get, symbol, timeframe, first_ms, last_ms)
            except ExchangeError as error:
                # long timeframes then warm up as bars pass
                log.warning(
                    "indicator_bars_unavailable", symbol=symbol, timeframe=timeframe, error=str(error)
                )
                return None
        if bars is None:
            return None
        sound = np.isfinite(bars.high) & (bars.low > 0) & (bars.low <= bars.close) & (bars.close <= bars.high)
        kept = bars.take(sound)
        return kept if len(kept) else None
