"""From frames of sockets to candles on NATS: read, sort out, publish, note what is there."""

from __future__ import annotations

import asyncio
from typing import Final

import numpy as np
import structlog

from app.candles.batch import BoolArray, CandleBatch, IntArray
from app.candles.known_minutes import KnownMinutes
from app.clock import Clock
from app.exchange.coverage import Coverage
from app.exchange.exchange_clock import ExchangeClock
from app.exchange.inbox import Inbox
from app.exchange.outbox import Outbox
from app.exchange.venue import Venue
from app.ingress.publish import CandlePublisher
from app.telemetry import feed_metrics

_GATHER_S: Final = 0.004
"""How long more frames are waited for: reading ten at once costs half of reading ten alone."""
_FRAMES_AT_ONCE: Final = 2_000
_UNREADABLE_AT_ONCE: Final = 10
"""How many frames of a batch that cannot be read are handed on; of a flood a sample will do."""
log = structlog.get_logger("feed")


class SharedPublisher:
    """Lets several tasks publish, one batch after the other, and nothing twice.

    A closed candle that was published with the same values is left out: it comes again when one socket replaces
    another, and when it was late and has been fetched. One with other values is a correction, and goes on.
    """

    def __init__(self, publisher: CandlePublisher, coverage: Coverage) -> None:
        self._publisher = publisher
        self._coverage = coverage
        self._known = KnownMinutes()
        self._turn = asyncio.Lock()

    async def publish(self, batch: CandleBatch) -> None:
        """Returns when the batch is on its way; its closed minutes are not owed any more."""
        await self._publish(self._known.accept(batch).batch, None)
        self._take(batch)

    async def publish_fetched(self, bars: CandleBatch, candles_per_message: int, *, again: bool) -> None:
        """As `publish`, for closed candles. again: those that were published too, since somebody
        downstream does not have them."""
        accepted = self._known.accept(bars).batch
        await self._publish(bars if again else accepted, candles_per_message)
        self._take(bars)

    async def publish_unreadable(self, frame: bytes) -> None:
        async with self._turn:
            await self._publisher.publish_unreadable(frame)

    async def flush(self) -> None:
        await self._publisher.flush()

    async def _publish(self, batch: CandleBatch, candles_per_message: int | None) -> None:
        if len(batch):
            async with self._turn:
                await self._publisher.publish(batch, candles_per_message)

    def _take(self, batch: CandleBatch) -> None:
        for row in np.flatnonzero(batch.closed).tolist():
            self._coverage.take(batch.symbol_of(row), int(batch.open_time_ms[row]))


class Pump:
    """`read` and `send` run beside each other, until cancelled.

    live: the symbols whose candles go on to NATS; those of others are left out, since their past comes first.
    """

    def __init__(
        self,
        venue: Venue,
        inbox: Inbox,
        publisher: SharedPublisher,
        live: set[str],
        exchange_clock: ExchangeClock,
        clock: Clock,
    ) -> None:
        self._venue = venue
        self._inbox = inbox
        self._outbox = Outbox()
        self._publisher = publisher
        self._live = live
        self._exchange_clock = exchange_clock
        self._clock = clock
        self._newest_event_ms: dict[str, int] = {}

    async def read(self) -> None:
        while True:
            await self._inbox.wait()
            if len(self._inbox) < _FRAMES_AT_ONCE:
                await asyncio.sleep(_GATHER_S)
            else:
                await asyncio.sleep(0)
            await self._read_some()

    async def send(self) -> None:
        """Raises ServerError if JetStream refuses candles for good."""
        while True:
            await self._publisher.publish(await self._outbox.take())

    async def drain(self) -> None:
        """Reads and sends what is there, and returns when the stream has all of it."""
        while len(self._inbox):
            await self._read_some()
        if self._outbox.rows:
            await self._publisher.publish(await self._outbox.take())
        await self._publisher.flush()

    async def _read_some(self) -> None:
        reading = self._venue.read(self._inbox.take(_FRAMES_AT_ONCE), self._clock.now_ms())
        if reading.unreadable:
            await self._hand_on(reading.unreadable)
        if reading.candles is not None:
            self._sort_out(reading.candles)

    async def _hand_on(self, unreadable: list[bytes]) -> None:
        feed_metrics().unreadable.inc(len(unreadable))
        log.warning("frames_unreadable", frames=len(unreadable), first=unreadable[0][:100])
        for frame in unreadable[:_UNREADABLE_AT_ONCE]:
            await self._publisher.publish_unreadable(frame)

    def _sort_out(self, batch: CandleBatch) -> None:
        closed = int(np.count_nonzero(batch.closed))
        feed_metrics().updates.labels(kind="closed").inc(closed)
        feed_metrics().updates.labels(kind="forming").inc(len(batch) - closed)
        self._exchange_clock.observe(int(batch.event_ts_ms.max()))
        good = self._wanted(batch) & (batch.closed | self._in_order(batch))
        kept = batch if good.all() else batch.take(good)
        if len(kept):
            self._outbox.add(kept)

    def _wanted(self, batch: CandleBatch) -> BoolArray:
        followed = np.array([symbol in self._live for symbol in batch.symbols], dtype=np.bool_)
        wanted: BoolArray = followed[batch.symbol_index]
        return wanted

    def _in_order(self, batch: CandleBatch) -> BoolArray:
        """False for candles older than one that was seen of their symbol: two sockets tell the same for a while when
        one replaces the other, and the old one may lag."""
        known = np.array([self._newest_event_ms.get(symbol, 0) for symbol in batch.symbols])
        newest = newest_so_far(batch, known)
        in_order: BoolArray = batch.event_ts_ms >= newest
        np.maximum.at(known, batch.symbol_index, batch.event_ts_ms)
        self._newest_event_ms.update(zip(batch.symbols, known.tolist(), strict=True))
        feed_metrics().dropped.inc(int(np.count_nonzero(~in_order & ~batch.closed)))
        return in_order


def newest_so_far(batch: CandleBatch, known_ms: IntArray) -> IntArray:
    """Of each row, the latest event time of its symbol up to and with it; known_ms: by symbol, before the batch."""
    order = np.argsort(batch.symbol_index, kind="stable")
    index = batch.symbol_index[order].astype(np.int64)
    event_ms = np.maximum(batch.event_ts_ms, known_ms[batch.symbol_index])[order]
    # one running maximum for all symbols: each begins above all that any of those before it can reach
    base = index * (int(event_ms.max(initial=0)) + 1)
    newest = np.empty_like(event_ms)
    newest[order] = np.maximum.accumulate(base + event_ms) - base
    return newest
