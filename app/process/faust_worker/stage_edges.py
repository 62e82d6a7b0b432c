"""The edges of a stage in a Faust worker, as plain functions: topics, dead letters, barriers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import faust
from faust.exceptions import ProducerSendError
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


def fault_of(error: BaseException) -> BaseException:
    """Return the client's error that Faust wraps in its own when a send fails; any other error as it is."""
    wraps = isinstance(error, ProducerSendError) and error.__cause__ is not None
    return error.__cause__ or error if wraps else error


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

    def topic(self, name: str, partitions: int) -> TopicT:
        """Return a topic of raw records (a bytes type alone is not raw: the app's serializer would win)."""
        return self._app.topic(
            name,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            partitions=partitions,
        )

    def frames(self, name: str) -> TopicT:
        return self.topic(name, self._partitions)

    def for_stage(self, stage: str, registry: CollectorRegistry, *, writes: str) -> StageEdges:
        """registry: of the metrics of its role. writes: the topic that it delivers to."""
        metrics = pipeline_metrics(registry)
        partitions = 1 if writes == self._topics.alerts else self._partitions
        out = self.topic(writes, partitions)
        letters = self.topic(self._topics.dead_letters, 1)

        async def deliver(partition: int, value: bytes) -> None:
            key = str(partition).encode()
            # a barrier passes through the single partition of [alerts] too
            sent = await out.send(key=key, value=value, partition=min(partition, partitions - 1))
            await sent

        async def send_letter(value: bytes) -> None:
            await (await letters.send(key=stage.encode(), value=value, partition=0))

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
        topic = self.topic(self._topics.gaps, 1)
        await (await topic.send(key=b"collector", value=encode_gaps(gaps), partition=0))

    async def publish_alerts(self, records: list[tuple[str, bytes]]) -> None:
        """Send all records, in order, to the only partition of [alerts]; return when Kafka has them."""
        # Faust's send costs 120 µs a record, and the alerts of a market's close come by the hundred
        producer = client_of_producer(self._app.producer)
        keyed = [(symbol.encode(), alert) for symbol, alert in records]
        await asyncio.gather(*await send_in_batches(producer, self._topics.alerts, 0, keyed))
