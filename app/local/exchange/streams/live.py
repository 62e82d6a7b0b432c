"""The content of the streams: the minute that forms, its close when the clock turns, and the tickers every second."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS
from app.local.exchange.exchange import Exchange
from app.local.exchange.faults.minutes import ClosedMinute, MinuteFaults
from app.local.exchange.intervals import bar_open, next_open
from app.local.exchange.market.planes import Planes
from app.local.exchange.render import tickers_json
from app.local.exchange.streams.fanout import Fanout
from app.local.exchange.streams.forming_bars import RunningBars
from app.local.exchange.streams.subscriptions import ARRAYS, Subscriptions

_TICK_S: Final = 0.05
"""The least time between two rounds; each updates a share of the contracts."""
_PAUSE_S: Final = 1.0
_TICKERS_EVERY_S: Final = 1.0


class LiveMarket:
    """Sends the kline streams of `exchange` until cancelled."""

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
        self._so_far = RunningBars(exchange)

    async def run(self) -> None:
        try:
            await self._run()
        finally:
            self._so_far.cancel()

    async def _run(self) -> None:
        began_s, rounds = time.monotonic(), 0
        while True:
            await self._turn()
            self._send_forming(self._exchange.clock.now_ms(), self._phase_of == rounds % self._phases)
            self._faults.after_round()
            rounds += 1
            late_s = time.monotonic() - (began_s + rounds * self._round_s)
            if late_s > _PAUSE_S:
                # no catching up after a pause: the next round sends the newest state
                began_s = time.monotonic() - rounds * self._round_s
            await asyncio.sleep(max(0.0, -late_s))

    async def _turn(self) -> None:
        """Close the minutes that have ended by now."""
        exchange = self._exchange
        while exchange.minute < exchange.clock.now_ms() // MINUTE_MS:
            minute, whole = exchange.minute, exchange.closed()
            self._so_far.want(self._subscriptions.klines)
            bars: dict[str, tuple[int, Planes, bool]] = {}
            for interval in self._intervals():
                bar = bar_open(interval, minute)
                over = next_open(interval, bar) == minute + 1
                bars[interval] = (bar, self._so_far.with_minute(interval, whole), over)
            self._so_far.turn(minute, whole)
            # turn first: a client that hears of a close and asks REST must find it there
            await exchange.turn_to(minute + 1)
            self._faults.on_close(ClosedMinute(minute, exchange.clock.now_ms(), bars), self._phases)

    def _send_forming(self, now_ms: int, which: NDArray[np.bool_]) -> None:
        exchange = self._exchange
        self._so_far.want(self._subscriptions.klines)
        if not self._subscriptions.klines:
            return
        forming = exchange.forming(now_ms)
        which = which & ~self._faults.silent(exchange.minute)
        for interval in self._intervals():
            bars = self._so_far.with_minute(interval, forming)
            bar = bar_open(interval, exchange.minute)
            self._fanout.send_klines(interval, bar, bars, which, event_ms=now_ms, closed=False)

    def _intervals(self) -> list[str]:
        return [interval for interval in self._subscriptions.klines if self._so_far.has(interval)]


async def run_tickers(exchange: Exchange, subscriptions: Subscriptions, fanout: Fanout) -> None:
    """Send the 24 h tickers of all contracts every second until cancelled."""
    while True:
        for stream in [stream for stream, receivers in subscriptions.arrays.items() if receivers]:
            day = await exchange.day_bars()
            which = np.flatnonzero(exchange.listings.traded(exchange.minute))
            now_ms = exchange.clock.now_ms()
            texts = tickers_json(ARRAYS[stream], exchange.market.contracts, which, day, now_ms)
            fanout.send_array(stream, ("[" + ",".join(texts) + "]").encode())
        await asyncio.sleep(_TICKERS_EVERY_S)
