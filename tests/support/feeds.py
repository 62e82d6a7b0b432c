"""A running feed of a local exchange, simulated or recorded, and the messages that it has published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import nats
from nats.aio.client import Client

from app.clock import SystemClock
from app.feed.feed import Feed
from app.feed.history.backfill import BackfillTimes
from app.feed.run import opened_feed
from app.feed.sockets.connection import SocketTimes
from app.settings import Settings
from app.telemetry.catalogue import RoleRegistry
from app.wire.nats.candles import parse
from app.wire.nats.stream import stream_name
from app.wire.retry import Backoff
from tests.support.eventually import eventually
from tests.support.recorded_exchange import RecordedExchange

QUICK = SocketTimes(connect_s=2.0, stale_s=30.0, lifetime_s=3600.0, calm_s=60.0, backoff=Backoff(0.05, 0.2))
MINUTE_MS = 60_000
RECORDED_MINUTE_MS = 1626992700000
"""The minute of the first recorded frame."""


@dataclass
class RunningFeed:
    feed: Feed
    settings: Settings
    client: Client
    registry: RoleRegistry
    readiness: list[bool] = field(default_factory=list)

    async def messages(self) -> list[tuple[str, bytes]]:
        """Return (subject without namespace, data) of all messages on NATS, in order."""
        jetstream = self.client.jetstream()
        stored = (await jetstream.stream_info(stream_name(self.settings.names()))).state.messages
        if not stored:
            return []
        subscription = await jetstream.subscribe(
            self.settings.name("candles.>"), stream=stream_name(self.settings.names()), ordered_consumer=True
        )
        found = [await subscription.next_msg(timeout=10) for _ in range(stored)]
        await subscription.unsubscribe()
        prefix = self.settings.name("")
        return [(one.subject.removeprefix(prefix), one.data) for one in found]

    async def candles(self, *, closed: bool) -> list[tuple[str, int, float]]:
        """Return (symbol, open_time_ms, close) of the candles on NATS, in order."""
        messages = await self.messages()
        live = {at for at, (subject, _) in enumerate(messages) if subject.startswith("candles.live.")}
        data = [one for _, one in messages]
        if not data:
            return []
        batch = parse(
            data, ingest_ts_ms=4 * 10**12, max_bytes=2**20, exchange=self.settings.exchange, live=live
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
    settings: Settings, *, patience: SocketTimes = QUICK, times: BackfillTimes | None = None
) -> AsyncIterator[RunningFeed]:
    """Run a feed, which must not end by itself. On exit it is stopped as its role would be."""
    stop, registry = asyncio.Event(), RoleRegistry("feed")
    client = await nats.connect(settings.server_urls().nats)
    try:
        async with opened_feed(settings, SystemClock(), registry, patience=patience, times=times) as feed:
            running = RunningFeed(feed, settings, client, registry)
            task = asyncio.create_task(feed.run(stop, running.readiness.append))
            try:
                yield running
            finally:
                ended_early = task.done()
                stop.set()
                await task
                assert not ended_early
        await client.jetstream().delete_stream(stream_name(settings.names()))
    finally:
        await client.close()


def speaking_to(exchange: RecordedExchange, settings: Settings, **more: object) -> Settings:
    urls = {"exchange_rest_url": exchange.url, "exchange_ws_url": exchange.ws_url}
    return settings.model_copy(update={**urls, "exchange_refresh_s": 1.0, **more})


def only(exchange: RecordedExchange, *symbols: str, listed_ms: int | None = None) -> None:
    """Let the exchange trade only these symbols, since `listed_ms` (by default the minute before its present)."""
    exchange.symbols = [one for one in exchange.symbols if one["symbol"] in symbols]
    first_ms = exchange.now_ms // MINUTE_MS * MINUTE_MS - MINUTE_MS if listed_ms is None else listed_ms
    exchange.listed_ms = first_ms
    for one in exchange.symbols:
        one |= {"onboardDate": first_ms}


async def started(running: RunningFeed, exchange: RecordedExchange, *, live: int = 1) -> None:
    """Wait until the feed is ready, both sockets are open, and `live` symbols have live candles."""
    await eventually(lambda: running.readiness[-1:] == [True])
    await eventually(lambda: len(exchange.sockets) == 2)
    await eventually(lambda: len(running.feed.live) >= live)


async def has_forming(running: RunningFeed, count: int) -> bool:
    return len(await running.candles(closed=False)) >= count


async def has_minutes(running: RunningFeed, symbol: str, count: int) -> bool:
    return len(await running.closed_minutes(symbol)) >= count
