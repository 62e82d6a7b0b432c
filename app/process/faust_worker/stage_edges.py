"""The edges of a stage in a Faust worker, as plain functions: topics, dead letters, barriers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import faust
from aiokafka import AIOKafkaProducer
from faust.types import TopicT
from prometheus_client import CollectorRegistry

from app.candles.known_minutes import Gap
from app.clock import Clock
from app.library_internals import client_of_producer
from app.process.quarantine import Attempts
from app.settings.access import KafkaAccess, RedisAccess
from app.telemetry import pipeline_metrics
from app.wire.barrier import BarrierReports, connect_barriers
from app.wire.dead_letters import DeadLetters
from app.wire.gap_reports import encode_gaps
from app.wire.kafka import send_in_batches
from app.wire.redis import connect_redis
from app.wire.topics import Topics

Deliver = Callable[[int, bytes], Awaitable[None]]
"""Sends a record to the given partition of the stage's output topic; returns when Kafka has it."""


@dataclass(frozen=True, slots=True)
class StageEdges:
    """The edges of every stage. attempts: which records have ended a process of the stage."""

    deliver: Deliver
    dead_letters: DeadLetters
    barriers: BarrierReports
    attempts: Attempts
    clock: Clock
    registry: CollectorRegistry
    """The registry of the metrics of the stage's role."""


class Edges:
    """The edges of one worker; `for_stage` gives the edges that every stage takes."""

    def __init__(
        self, app: faust.App, kafka: KafkaAccess, redis: RedisAccess, data_dir: Path, clock: Clock
    ) -> None:
        self._app = app
        self._partitions = kafka.partitions
        self._clock = clock
        self._topics = Topics.of(kafka.namespace)
        self.redis = connect_redis(redis.url)
        self._barriers = BarrierReports(connect_barriers(redis.url), redis.namespace)
        self._data_dir = data_dir
        self._namespace = kafka.namespace

    def frames(self, name: str) -> TopicT:
        """Return a topic of raw records (a bytes type alone is not raw: the app's serializer would win)."""
        return self._app.topic(
            name,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            partitions=self._partitions,
        )

    def for_stage(self, stage: str, registry: CollectorRegistry, *, writes: str) -> StageEdges:
        """registry: of the metrics of its role. writes: the topic that it delivers to."""
        metrics = pipeline_metrics(registry)
        # a barrier passes through the single partition of [alerts] too
        last = 0 if writes == self._topics.alerts else self._partitions - 1

        async def deliver(partition: int, value: bytes) -> None:
            await self._send(writes, min(partition, last), str(partition).encode(), value)

        async def send_letter(value: bytes) -> None:
            await self._send(self._topics.dead_letters, 0, stage.encode(), value)

        return StageEdges(
            deliver,
            DeadLetters(stage, send_letter, self._clock, metrics),
            self._barriers,
            Attempts(self._data_dir, self._namespace.name(stage), metrics),
            self._clock,
            registry,
        )

    async def report_gaps(self, gaps: Sequence[Gap]) -> None:
        """Send a report to [gaps], for the feed; wait until Kafka has it."""
        await self._send(self._topics.gaps, 0, b"collector", encode_gaps(gaps))

    async def publish_alerts(self, records: list[tuple[str, bytes]]) -> None:
        """Send all records, in order, to the only partition of [alerts]; return when Kafka has them."""
        keyed = [(symbol.encode(), alert) for symbol, alert in records]
        await asyncio.gather(*await send_in_batches(self._producer, self._topics.alerts, 0, keyed))

    async def _send(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        """Send a record; return when Kafka has it."""
        await self._producer.send_and_wait(topic, value, key=key, partition=partition)

    @property
    def _producer(self) -> AIOKafkaProducer:
        """The client below Faust's producer: a send by Faust costs 120 µs more."""
        client: AIOKafkaProducer = client_of_producer(self._app.producer)
        return client
