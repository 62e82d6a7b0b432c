"""A running pipeline that takes one update at a time: each is dealt with by every stage before the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats
from aiokafka import AIOKafkaProducer
from nats.aio.client import Client

from app.barrier import BarrierReports
from app.candles.batch import CandleBatch
from app.cooldown import connect_redis
from app.database.migrate import migrate
from app.ingress.publish import CandlePublisher, candle_publisher
from app.kafka import ensure_topics, kafka_producer
from app.replay.drain import barrier_passed, nats_drained, send_barrier
from app.replay.run import ROLES
from app.settings import Settings
from app.supervisor import RoleProcesses
from tests.support.replays import published_alerts


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
        """Publishes, and returns when all that follows from it is in Kafka and in the database."""
        await self._publisher.publish(candles)
        await self._publisher.flush()
        await self.settle()

    async def settle(self) -> None:
        """Returns when every stage is done with all that was published."""
        await nats_drained(self.client, self.settings)
        identifier = uuid4().hex
        await send_barrier(self.producer, self.settings, identifier)
        await barrier_passed(self._reports, self.settings, identifier)

    async def alerts(self) -> list[dict[str, Any]]:
        return await published_alerts(self.settings)


@asynccontextmanager
async def live_pipeline(settings: Settings, log_dir: Path) -> AsyncIterator[LivePipeline]:
    """Bridge, worker and sinks, ready to work; each candle travels in a message of its own."""
    await asyncio.to_thread(migrate, settings)
    await ensure_topics(settings)
    roles = RoleProcesses(settings, log_dir, ROLES)
    redis = connect_redis(settings.server_urls().redis)
    client = await nats.connect(settings.server_urls().nats)
    try:
        roles.start()
        async with kafka_producer(settings) as producer, candle_publisher(settings, "test") as publisher:
            reports = BarrierReports(redis, settings)
            pipeline = LivePipeline(settings, publisher, client, producer, reports, roles)
            first = uuid4().hex
            await send_barrier(producer, settings, first)
            await barrier_passed(reports, settings, first)
            yield pipeline
    finally:
        await roles.stop()
        await client.close()
        await redis.aclose()
