"""What a stage in a Faust worker needs of the outside, as plain functions: topics, dead letters, barriers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import faust
from faust.types import TopicT

from app.barrier import BarrierReports, connect_barriers
from app.candles.known_minutes import Gap
from app.clock import Clock
from app.cooldown import connect_redis
from app.dead_letters import DeadLetters
from app.gap_reports import encode_gaps
from app.settings import Settings
from app.topics import Topics


class Edges:
    """The edges of one worker; `for_stage` gives those that every stage takes."""

    def __init__(self, app: faust.App, settings: Settings, clock: Clock) -> None:
        self._app = app
        self._settings = settings
        self._clock = clock
        self._topics = Topics.of(settings)
        self.redis = connect_redis(settings.server_urls().redis)
        self._barriers = BarrierReports(connect_barriers(settings.server_urls().redis), settings)

    def topic(self, name: str, partitions: int) -> TopicT:
        """A topic of raw records (a bytes type alone is not raw: the app's serializer would win)."""
        return self._app.topic(
            name,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            partitions=partitions,
        )

    def frames(self, name: str) -> TopicT:
        return self.topic(name, self._settings.partitions)

    def for_stage(self, stage: str, *, writes: str) -> dict[str, Any]:
        """The keyword arguments of `agents.stage.Stage`. `writes`: the topic that the stage delivers to."""
        partitions = 1 if writes == self._topics.alerts else self._settings.partitions
        out = self.topic(writes, partitions)
        letters = self.topic(self._topics.dead_letters, 1)

        async def deliver(partition: int, value: bytes) -> None:
            key = str(partition).encode()
            # a barrier passes through the single partition of [alerts] too
            sent = await out.send(key=key, value=value, partition=min(partition, partitions - 1))
            await sent

        async def send_letter(value: bytes) -> None:
            await (await letters.send(key=stage.encode(), value=value, partition=0))

        return {
            "deliver": deliver,
            "dead_letters": DeadLetters(stage, send_letter, self._clock),
            "barriers": self._barriers,
            "clock": self._clock,
        }

    async def report_gaps(self, gaps: Sequence[Gap]) -> None:
        """To [gaps], for the feed; returns when Kafka has it."""
        topic = self.topic(self._topics.gaps, 1)
        await (await topic.send(key=b"collector", value=encode_gaps(gaps), partition=0))

    async def publish_alerts(self, records: list[tuple[str, bytes]]) -> None:
        """All records, in order, to the only partition of [alerts]; returns when Kafka has them."""
        # Faust's send costs 120 µs a record, and the alerts of a market's close come by the hundred; so they go
        # through the client below its producer, which takes whole batches
        producer = cast(Any, self._app.producer)._producer
        waiting = deque((symbol.encode(), alert) for symbol, alert in records)
        delivered = []
        while waiting:
            batch = producer.create_batch()
            while waiting and batch.append(key=waiting[0][0], value=waiting[0][1], timestamp=None):
                waiting.popleft()
            delivered.append(await producer.send_batch(batch, self._topics.alerts, partition=0))
        await asyncio.gather(*delivered)
