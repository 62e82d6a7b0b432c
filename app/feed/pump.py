"""From frames of sockets to candles on NATS: frames are read, candles filtered and published, and minutes noted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

import numpy as np
import structlog

from app.candles.batch import BoolArray, CandleBatch, IntArray
from app.candles.known_minutes import KnownMinutes
from app.candles.validity import Reason, check
from app.clock import Clock
from app.feed.exchange_clock import ExchangeClock
from app.feed.exchanges.exchange import Venue
from app.feed.frame_queue import FrameQueue
from app.feed.history.coverage import Coverage
from app.feed.publish_queue import PublishQueue
from app.telemetry import FeedMetrics
from app.wire.nats.publish import CandlePublisher

_GATHER_S: Final = 0.004
"""How long to wait for more frames: reading ten together costs half of reading ten one by one."""
_FRAMES_AT_ONCE: Final = 2_000
_UNREADABLE_AT_ONCE: Final = 10
"""How many unreadable frames of a batch are passed on: a sample of a flood is enough."""
_REFUSED_AT_ONCE: Final = 10
"""The same for invalid candles."""
log = structlog.get_logger("feed")


class SharedPublisher:
    """Lets several tasks publish, one batch after the other, without duplicates.

    A closed candle that was published with the same values is left out: it comes again when one socket replaces
    another, and when it was late and has been fetched. One with other values is a correction, and is published.
    """

    def __init__(self, publisher: CandlePublisher, coverage: Coverage) -> None:
        self._publisher = publisher
        self._coverage = coverage
        self._known = KnownMinutes()
        self._turn = asyncio.Lock()

    async def publish(self, batch: CandleBatch) -> None:
        """Publish the batch, and return when it is on its way; its closed minutes are not owed any more."""
        await self._publish(self._known.accept(batch).batch, None)
        self._take(batch)

    async def publish_fetched(self, bars: CandleBatch, candles_per_message: int, *, again: bool) -> None:
        """Publish closed candles like `publish`. again: also candles published before, since a later
        stage does not have them."""
        accepted = self._known.accept(bars).batch
        await self._publish(bars if again else accepted, candles_per_message)
        self._take(bars)

    async def publish_refused(self, batch: CandleBatch) -> None:
        """Pass on candles that the bridge will reject; their minutes stay owed."""
        async with self._turn:
            await self._publisher.publish(batch, 1)

    async def publish_unreadable(self, frame: bytes) -> None:
        async with self._turn:
            await self._publisher.publish_unreadable(frame)

    async def flush(self) -> None:
        await self._publisher.flush()

    @property
    def position(self) -> tuple[int, int]:
        """The publisher's `position`."""
        return self._publisher.position

    async def _publish(self, batch: CandleBatch, candles_per_message: int | None) -> None:
        if len(batch):
            async with self._turn:
                await self._publisher.publish(batch, candles_per_message)

    def _take(self, batch: CandleBatch) -> None:
        for row in np.flatnonzero(batch.closed).tolist():
            self._coverage.take(batch.symbol_of(row), int(batch.open_time_ms[row]))


class Pump:
    """Turns frames into candles on NATS. `read` and `send` run at the same time, until cancelled.

    live: the symbols whose candles go to NATS; candles of other symbols are left out, since their past comes first.
    """

    def __init__(
        self,
        venue: Venue,
        inbox: FrameQueue,
        publisher: SharedPublisher,
        live: set[str],
        exchange_clock: ExchangeClock,
        clock: Clock,
        metrics: FeedMetrics,
    ) -> None:
        self._metrics = metrics
        self._venue = venue
        self._inbox = inbox
        self._outbox = PublishQueue(metrics)
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
        """Send candles until cancelled. Raises ServerError if JetStream refuses candles for good."""
        while True:
            await self._publisher.publish(await self._outbox.take())

    async def drain(self) -> None:
        """Read and send the present frames, and return when the stream has all of them."""
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
            self._sort_out(await self._valid(reading.candles))

    async def _hand_on(self, unreadable: list[bytes]) -> None:
        self._metrics.unreadable.inc(len(unreadable))
        log.warning("frames_unreadable", frames=len(unreadable), first=unreadable[0][:100])
        for frame in unreadable[:_UNREADABLE_AT_ONCE]:
            await self._publisher.publish_unreadable(frame)

    async def _valid(self, batch: CandleBatch) -> CandleBatch:
        """Return the valid rows. The others go to the bridge, which rejects them by name, and change no state: their
        minute is still owed, and their time does not count."""
        faults = check(batch, self._clock.now_ms())
        if not faults:
            return batch
        bad = np.logical_or.reduce([mask for mask, _ in faults])
        for mask, reason in faults:
            if reason is Reason.FUTURE:
                self._note_future(batch.take(mask))
        refused = batch.take(bad)
        await self._publisher.publish_refused(refused.take(np.arange(min(len(refused), _REFUSED_AT_ONCE))))
        return batch.take(~bad)

    def _note_future(self, future: CandleBatch) -> None:
        self._metrics.ahead.labels(kind="future").inc(len(future))
        ahead_ms = int(future.event_ts_ms[0]) - self._clock.now_ms()
        log.warning(
            "candles_ahead", candles=len(future), symbol=future.symbol_of(0), event_ahead_s=ahead_ms // 1000
        )

    def _sort_out(self, batch: CandleBatch) -> None:
        if not len(batch):
            return
        closed = int(np.count_nonzero(batch.closed))
        self._metrics.updates.labels(kind="closed").inc(closed)
        self._metrics.updates.labels(kind="forming").inc(len(batch) - closed)
        self._exchange_clock.observe(batch)
        early = self._exchange_clock.too_early(batch)
        if early.any():
            # it comes again when it is over, or is owed then
            self._metrics.ahead.labels(kind="closed").inc(int(np.count_nonzero(early)))
            batch = replace(batch, closed=batch.closed & ~early)
        good = self._wanted(batch) & (batch.closed | self._in_order(batch))
        kept = batch if good.all() else batch.take(good)
        if len(kept):
            self._outbox.add(kept)

    def _wanted(self, batch: CandleBatch) -> BoolArray:
        followed = np.array([symbol in self._live for symbol in batch.symbols], dtype=np.bool_)
        wanted: BoolArray = followed[batch.symbol_index]
        return wanted

    def _in_order(self, batch: CandleBatch) -> BoolArray:
        """Return a mask that is False for candles older than one already seen of their symbol: while one socket
        replaces another, both send the same candles, and the old one may lag."""
        known = np.array([self._newest_event_ms.get(symbol, 0) for symbol in batch.symbols])
        newest = newest_so_far(batch, known)
        in_order: BoolArray = batch.event_ts_ms >= newest
        # a time that is too late must not make later candles look old
        event_ms = np.minimum(batch.event_ts_ms, self._exchange_clock.latest_ms())
        np.maximum.at(known, batch.symbol_index, event_ms)
        self._newest_event_ms.update(
            (symbol, newest_ms)
            for symbol, newest_ms in zip(batch.symbols, known.tolist(), strict=True)
            if symbol in self._live
        )
        self._metrics.dropped.inc(int(np.count_nonzero(~in_order & ~batch.closed)))
        return in_order


def newest_so_far(batch: CandleBatch, known_ms: IntArray) -> IntArray:
    """Return, for each row, the latest event time of its symbol so far; known_ms: by symbol, before the batch."""
    order = np.argsort(batch.symbol_index, kind="stable")
    index = batch.symbol_index[order].astype(np.int64)
    event_ms = np.maximum(batch.event_ts_ms, known_ms[batch.symbol_index])[order]
    # one running maximum for all symbols: each begins above every value that the earlier ones can reach
    base = index * (int(event_ms.max(initial=0)) + 1)
    newest = np.empty_like(event_ms)
    newest[order] = np.maximum.accumulate(base + event_ms) - base
    return newest
