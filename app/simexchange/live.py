"""The minute that forms, sent out as it grows; and its close, when the clock turns."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS
from app.simexchange.exchange import Exchange
from app.simexchange.fanout import Fanout
from app.simexchange.intervals import bar_open, next_open
from app.simexchange.market.planes import Planes, merged
from app.simexchange.minute_faults import ClosedMinute, MinuteFaults
from app.simexchange.render import tickers_json
from app.simexchange.subscriptions import ARRAYS, Subscriptions

_TICK_S: Final = 0.05
"""Rounds are at least so far apart; in each, a share of the contracts is updated."""
_TICKERS_S: Final = 1.0
log = structlog.get_logger("simexchange")


class LiveMarket:
    """Sends what the streams of `exchange` have to say until it is cancelled."""

    def __init__(
        self,
        exchange: Exchange,
        subscriptions: Subscriptions,
        fanout: Fanout,
        faults: MinuteFaults,
        updates_per_s: float,
    ) -> None:
        self._exchange = exchange
        self._subscriptions = subscriptions
        self._fanout = fanout
        self._faults = faults
        self._phases = max(1, round(1 / (updates_per_s * _TICK_S)))
        self._round_s = 1 / (updates_per_s * self._phases)
        self._phase_of = np.arange(len(exchange.market.contracts)) % self._phases
        self._so_far: dict[str, Planes] = {}
        """Interval -> closed minutes of its bar that forms."""

    async def run(self) -> None:
        round_number = 0
        began_s = tickers_at_s = time.monotonic()
        while True:
            await self._turn()
            now_ms = self._exchange.clock.now_ms()
            await self._send_forming(now_ms, self._phase_of == round_number % self._phases)
            if time.monotonic() >= tickers_at_s:
                tickers_at_s = time.monotonic() + _TICKERS_S
                await self._send_tickers(now_ms)
            self._faults.after_round()
            round_number += 1
            late_s = time.monotonic() - (began_s + round_number * self._round_s)
            if late_s > 1.0:
                # after a pause there is nothing to catch up with: the next round tells the newest state
                began_s, round_number = time.monotonic(), 0
            await asyncio.sleep(max(0.0, -late_s))

    async def _turn(self) -> None:
        """Closes the minutes that have ended by now."""
        exchange = self._exchange
        while exchange.minute < exchange.clock.now_ms() // MINUTE_MS:
            await self._load_so_far()
            minute, whole = exchange.minute, exchange.closed()
            bars = {
                interval: (
                    bar_open(interval, minute),
                    whole if interval == "1m" else merged(self._so_far[interval], whole),
                    next_open(interval, bar_open(interval, minute)) == minute + 1,
                )
                for interval in list(self._subscriptions.klines)
                if interval == "1m" or interval in self._so_far
            }
            closed = ClosedMinute(minute, exchange.clock.now_ms(), bars)
            self._faults.on_close(closed, self._phases)
            self._so_far = {
                interval: bar for interval, (_, bar, over) in bars.items() if interval != "1m" and not over
            }
            await exchange.turn_to(minute + 1)

    async def _send_forming(self, now_ms: int, which: NDArray[np.bool_]) -> None:
        exchange = self._exchange
        if not self._subscriptions.klines:
            return
        await self._load_so_far()
        forming = exchange.forming(now_ms)
        which = which & ~self._faults.silent(exchange.minute)
        for interval in list(self._subscriptions.klines):
            bars = forming if interval == "1m" else merged(self._so_far[interval], forming)
            bar = bar_open(interval, exchange.minute)
            self._fanout.send_klines(interval, bar, bars, which, event_ms=now_ms, closed=False)

    async def _load_so_far(self) -> None:
        """Looks up the closed minutes of the bars that somebody has come to want."""
        for interval in list(self._subscriptions.klines):
            if interval != "1m" and interval not in self._so_far:
                self._so_far[interval] = await self._exchange.bars_so_far(interval)

    async def _send_tickers(self, now_ms: int) -> None:
        wanted = [stream for stream, receivers in self._subscriptions.arrays.items() if receivers]
        if not wanted:
            return
        day = await self._exchange.day_bars()
        which = np.flatnonzero(self._exchange.listings.traded(self._exchange.minute))
        for stream in wanted:
            texts = tickers_json(ARRAYS[stream], self._exchange.market.contracts, which, day, now_ms)
            self._fanout.send_array(stream, ("[" + ",".join(texts) + "]").encode())
