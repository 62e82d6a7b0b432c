"""The exchange's time, as far as it is known here.

No single source moves it: with many symbols it is an event time that several of them have reached; with few symbols
the exchange itself is asked. It never runs ahead of this machine's clock by more than a bound: where the two disagree,
a minute is over when both say so. A simulated exchange that plays the past at any speed is behind this machine, which
is allowed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np
import structlog

from app.candles.batch import MINUTE_MS, BoolArray, CandleBatch
from app.clock import Clock
from app.errors import ExchangeError
from app.feed.exchanges.answers import reading_answer
from app.feed.exchanges.exchange import Get, Venue
from app.feed.feed_health import FEED_HEALTH
from app.telemetry import FeedMetrics

AGREE_MS: Final = 30_000
"""Largest difference between the exchange's clock and this machine's: half of the bridge's bound for the future."""
GRACE_MS: Final = 5_000
"""How long after its end a minute may still come by itself."""
_LEAST_SYMBOLS: Final = 3
_SHARE_OF_SYMBOLS: Final = 10
"""One in this many symbols, and at least `_LEAST_SYMBOLS`, must have reached a time before it counts."""
_MOST_SYMBOLS: Final = 10_000
_LEAD_MS: Final = 5_000
"""How far ahead of the known time the next event of a symbol may be."""
_LEAD_UNHEARD_MS: Final = MINUTE_MS
"""The same while too few symbols have sent events to know the time from them."""
_EVENT_SLACK_MS: Final = 1_000
"""How far before the end of its minute the event time of a closed candle may be."""
_EVERY_S: Final = 60.0
_SILENT_S: Final = 20.0
"""After this silence the exchange is asked: if all sockets are lost, minutes still end, and REST may have them."""
_DOUBTS_EVERY_S: Final = 2.0
_LATEST_MS: Final = 4_102_444_800_000
"""2100-01-01"""
log = structlog.get_logger("feed")


class ExchangeClock:
    """Times are UTC ms. clock: this machine's. elapsed_s: monotonic."""

    def __init__(self, clock: Clock, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._elapsed_s = elapsed_s
        self._now_ms = 0
        self._moved_at_s = elapsed_s()
        self._spoken: dict[str, int] = {}
        """The latest event time of each symbol."""
        self._unconfirmed_ms = 0
        self.offset_ms: int | None = None
        """The exchange's clock minus this machine's when the exchange was last asked; None before."""

    def now_ms(self) -> int:
        """Return the known time; 0 before anything is known. It never goes back."""
        return self._now_ms

    def latest_ms(self) -> int:
        """Return the latest time that an event can have; a later event time is wrong."""
        if not self._now_ms:
            return self._clock.now_ms() + AGREE_MS
        passed_ms = int((self._elapsed_s() - self._moved_at_s) * 1000)
        lead_ms = _LEAD_MS if len(self._spoken) >= _LEAST_SYMBOLS else _LEAD_UNHEARD_MS
        return min(self._clock.now_ms() + AGREE_MS, self._now_ms + passed_ms + lead_ms)

    def observe(self, batch: CandleBatch) -> None:
        """Learn the time from candles as the exchange sent them, in their order."""
        if not len(batch):
            return
        # of rows with the same symbol the last assignment wins
        last = np.zeros(len(batch.symbols), dtype=np.int64)
        last[batch.symbol_index] = batch.event_ts_ms
        latest_ms = self._clock.now_ms() + AGREE_MS
        for symbol, event_ms in zip(batch.symbols, last.tolist(), strict=True):
            if 0 < event_ms <= latest_ms and (symbol in self._spoken or len(self._spoken) < _MOST_SYMBOLS):
                self._spoken[symbol] = event_ms
                self._unconfirmed_ms = max(self._unconfirmed_ms, event_ms)
        count = len(self._spoken)
        if count >= _LEAST_SYMBOLS:
            times = np.fromiter(self._spoken.values(), dtype=np.int64, count=count)
            rank = max(_LEAST_SYMBOLS, count // _SHARE_OF_SYMBOLS)
            self._move(int(np.partition(times, count - rank)[count - rank]))

    def told(self, now_ms: int) -> int:
        """Learn the time from the exchange's answer; return `offset_ms`."""
        host_ms = self._clock.now_ms()
        self.offset_ms = now_ms - host_ms
        # where the clocks disagree, a minute is over when both say so
        self._move(now_ms if self.offset_ms <= AGREE_MS else min(now_ms, host_ms))
        self._unconfirmed_ms = self._now_ms
        return self.offset_ms

    @property
    def in_doubt(self) -> bool:
        """Whether events claim that a minute is over but the known time does not; then the exchange must be asked."""
        return (self._unconfirmed_ms - GRACE_MS) // MINUTE_MS > (self._now_ms - GRACE_MS) // MINUTE_MS

    def forget(self, symbol: str) -> None:
        self._spoken.pop(symbol, None)

    def too_early(self, batch: CandleBatch) -> BoolArray:
        """Return the mask, shape (rows,), of candles marked closed before the end of their minute, by their own event
        time or by the clock."""
        end_ms = batch.open_time_ms + MINUTE_MS
        early: BoolArray = batch.closed & (
            (end_ms > self.latest_ms()) | (batch.event_ts_ms < end_ms - _EVENT_SLACK_MS)
        )
        return early

    def _move(self, now_ms: int) -> None:
        if now_ms > self._now_ms:
            self._now_ms = now_ms
            self._moved_at_s = self._elapsed_s()


def clock_fault(offset_s: float) -> str:
    """Return the fault of this machine's clock. offset_s: the exchange's clock minus this machine's."""
    if offset_s > 0:
        cost = "until then candles are rejected as `future`, and minutes close late"
        return f"the clock of this machine is {offset_s:.0f} s behind the exchange's: set it (NTP); {cost}"
    return (
        f"the clock of this machine is {-offset_s:.0f} s ahead of the exchange's: set it (NTP), unless the exchange is "
        "a simulated one that plays the past"
    )


class TimeWatch:
    def __init__(self, venue: Venue, get: Get, exchange_clock: ExchangeClock, metrics: FeedMetrics) -> None:
        self._venue = venue
        self._metrics = metrics
        self._get = get
        self._exchange_clock = exchange_clock
        self._asked_at_s = self._moved_at_s = time.monotonic()
        self._known_ms = 0
        self._disagrees = False

    async def ask_if_due(self) -> None:
        now_s, known_ms = time.monotonic(), self._exchange_clock.now_ms()
        if known_ms != self._known_ms:
            self._known_ms, self._moved_at_s = known_ms, now_s
        since_s = now_s - self._asked_at_s
        silent = min(since_s, now_s - self._moved_at_s) >= _SILENT_S
        doubted = since_s >= _DOUBTS_EVERY_S and self._exchange_clock.in_doubt
        if since_s >= _EVERY_S or silent or doubted:
            await self.ask()

    async def ask(self) -> None:
        """Ask the exchange for its time; without an answer keep the known time."""
        self._asked_at_s = time.monotonic()
        try:
            with reading_answer(self._venue, "its time"):
                now_ms = await self._venue.server_time_ms(self._get)
                if not 0 < now_ms < _LATEST_MS:
                    raise ValueError(f"not a time in milliseconds: {str(now_ms)[:30]}")
        except ExchangeError as error:
            log.warning("exchange_time_unknown", error=str(error))
            return
        self._compare(self._exchange_clock.told(now_ms) / 1000)

    def _compare(self, offset_s: float) -> None:
        FEED_HEALTH.clock_offset_s = offset_s
        self._metrics.clock_offset.set(offset_s)
        disagrees = abs(offset_s) * 1000 > AGREE_MS
        if disagrees and not self._disagrees:
            log.error("clock_disagrees", offset_s=offset_s, advice=clock_fault(offset_s))
        elif self._disagrees and not disagrees:
            log.info("clock_agrees", offset_s=offset_s)
        self._disagrees = disagrees
