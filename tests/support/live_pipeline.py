"""A running pipeline that processes one update at a time: every stage is done with it before the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats
import numpy as np
from aiokafka import AIOKafkaProducer
from nats.aio.client import Client

from app.candles.batch import MINUTE_MS, CandleBatch
from app.database.migrate import migrate
from app.process.children.supervisor import RoleProcesses, role_environ
from app.process.drain import barrier_passed, nats_drained, send_barrier
from app.replay.replay import ROLES
from app.settings import Settings
from app.wire.barrier import BarrierReports
from app.wire.kafka import ensure_topics, kafka_producer
from app.wire.nats.publish import CandlePublisher, candle_publisher
from app.wire.redis import connect_redis
from tests.support.database import MIDNIGHT_MS
from tests.support.replays import published_alerts

QUIET_MINUTES = 16
"""Minutes of history without alerts, for tests of the next minute."""

Update = tuple[int, int, float, float, bool]
"""Minute since MIDNIGHT_MS, event time in ms after that minute's open, price, quote volume, closed."""


def updates(symbol: str, *rows: Update) -> CandleBatch:
    minute, after_ms, price, quote_volume, closed = (np.array(column) for column in zip(*rows, strict=True))
    open_time_ms = MIDNIGHT_MS + minute * MINUTE_MS
    nothing = np.full(len(rows), np.nan)
    return CandleBatch(
        symbols=(symbol,),
        symbol_index=np.zeros(len(rows), dtype=np.int32),
        open_time_ms=open_time_ms,
        open=price, high=price, low=price, close=price,
        volume=quote_volume / price, quote_volume=quote_volume,
        trades=np.ones(len(rows), dtype=np.int64),
        taker_buy_volume=nothing, taker_buy_quote_volume=nothing,
        quote_estimated=np.zeros(len(rows), dtype=np.bool_),
        closed=closed,
        event_ts_ms=open_time_ms + after_ms,
        ingest_ts_ms=np.zeros(len(rows), dtype=np.int64),
    )  # fmt: skip


def closed(minute: int, price: float, quote_volume: float) -> Update:
    return (minute, MINUTE_MS, price, quote_volume, True)


def forming(minute: int, after_ms: int, price: float, quote_volume: float) -> Update:
    return (minute, after_ms, price, quote_volume, False)


class LivePipeline:
    def __init__(
        self,
        settings: Settings,
        publisher: CandlePublisher,
        client: Client,
        producer: AIOKafkaProducer,
        reports: BarrierReports,
        roles: RoleProcesses,
    ) -> None:
        self.settings = settings
        self.client = client
        self.producer = producer
        self.roles = roles
        self._publisher = publisher
        self._reports = reports

    async def send(self, candles: CandleBatch) -> None:
        """Publish candles, and wait until everything that follows from them is in Kafka and in the database."""
        await self.publish(candles)
        await self._publisher.flush()
        await self.settle()

    async def publish(self, candles: CandleBatch) -> None:
        """Publish candles; returns when NATS has them or may have them."""
        await self._publisher.publish(candles)

    async def settle(self) -> None:
        """Wait until every stage is done with everything that was published."""
        await nats_drained(self.client, self.settings.names())
        identifier = uuid4().hex
        await send_barrier(self.producer, self.settings.kafka(), identifier)
        await barrier_passed(self._reports, self.settings.partitions, identifier)

    async def alerts(self) -> list[dict[str, Any]]:
        return await published_alerts(self.settings)


@asynccontextmanager
async def live_pipeline(settings: Settings, log_dir: Path) -> AsyncIterator[LivePipeline]:
    """Run bridge, worker and sinks; yield when they are ready. Each candle travels in its own message."""
    await asyncio.to_thread(migrate, settings.postgres())
    await ensure_topics(settings.kafka())
    roles = RoleProcesses(role_environ(settings), log_dir, ROLES)
    redis = connect_redis(settings.server_urls().redis)
    client = await nats.connect(settings.server_urls().nats)
    try:
        roles.start()
        async with (
            kafka_producer(settings.kafka()) as producer,
            candle_publisher(settings.nats(), "test") as publisher,
        ):
            reports = BarrierReports(redis, settings.names())
            pipeline = LivePipeline(settings, publisher, client, producer, reports, roles)
            first = uuid4().hex
            await send_barrier(producer, settings.kafka(), first)
            await barrier_passed(reports, settings.partitions, first)
            yield pipeline
    finally:
        await roles.stop()
        await client.close()
        await redis.aclose()
