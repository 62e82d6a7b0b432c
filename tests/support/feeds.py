"""A feed against a local exchange, and what it has published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import nats
from nats.aio.client import Client

from app.clock import SystemClock
from app.exchange.backfill import BackfillTimes
from app.exchange.connection import Patience
from app.exchange.feed import Feed, opened_feed
from app.ingress.pull import stream_name
from app.ingress.wire import parse
from app.settings import Settings

QUICK = Patience(
    connect_s=2.0, stale_s=30.0, lifetime_s=3600.0, calm_s=60.0, first_wait_s=0.05, longest_wait_s=0.2
)


@dataclass
class RunningFeed:
    feed: Feed
    settings: Settings
    client: Client
    readiness: list[bool] = field(default_factory=list)

    async def messages(self) -> list[tuple[str, bytes]]:
        """(subject without namespace, data) of all that is on NATS, in order."""
        jetstream = self.client.jetstream()
        stored = (await jetstream.stream_info(stream_name(self.settings))).state.messages
        if not stored:
            return []
        subscription = await jetstream.subscribe(
            self.settings.name("candles.>"), stream=stream_name(self.settings), ordered_consumer=True
        )
        found = [await subscription.next_msg(timeout=10) for _ in range(stored)]
        await subscription.unsubscribe()
        prefix = self.settings.name("")
        return [(one.subject.removeprefix(prefix), one.data) for one in found]

    async def candles(self, *, closed: bool) -> list[tuple[str, int, float]]:
        """(symbol, open_time_ms, close) of the candles on NATS, in order."""
        messages = await self.messages()
        live = {at for at, (subject, _) in enumerate(messages) if subject.startswith("candles.live.")}
        data = [one for _, one in messages]
        if not data:
            return []
        batch = parse(
            data, ingest_ts_ms=2**42, max_bytes=2**20, exchange=self.settings.exchange, live=live
        ).batch
        if batch is None:
            return []
        return [
            (batch.symbol_of(row), int(batch.open_time_ms[row]), float(batch.close[row]))
            for row in range(len(batch))
            if bool(batch.closed[row]) is closed
        ]

    async def closed_minutes(self, symbol: str) -> list[int]:
        return [open_time_ms for name, open_time_ms, _ in await self.candles(closed=True) if name == symbol]


@asynccontextmanager
async def running_feed(
    settings: Settings, *, patience: Patience = QUICK, times: BackfillTimes | None = None
) -> AsyncIterator[RunningFeed]:
    """It must not end by itself; on leaving it is stopped as its role would be."""
    stop = asyncio.Event()
    client = await nats.connect(settings.server_urls().nats)
    try:
        async with opened_feed(settings, SystemClock(), patience=patience, times=times) as feed:
            running = RunningFeed(feed, settings, client)
            task = asyncio.create_task(feed.run(stop, running.readiness.append))
            try:
                yield running
            finally:
                ended_early = task.done()
                stop.set()
                await task
                assert not ended_early
        await client.jetstream().delete_stream(stream_name(settings))
    finally:
        await client.close()
