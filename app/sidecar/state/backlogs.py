"""The progress of each role, read from Kafka and NATS themselves: a consumer that no longer polls, or that was never
given its partitions, cannot tell which records it misses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from nats.errors import Error as NatsError

from app.clock import Clock
from app.errors import ScreenerError
from app.process.health.backlog import Backlog, Waiting
from app.process.tasks import to_its_end, together
from app.settings.access import KafkaAccess, Namespace, NatsAccess
from app.wire.kafka import client_options
from app.wire.nats.progress import bridge_position
from app.wire.topics import Topics

_LOOK_TIMEOUT_S: Final = 5.0
_FAULTS: Final = (KafkaError, NatsError, ScreenerError, OSError, TimeoutError)
_WORKER: Final = "all"
"""The group of a worker that is all three stages."""

Work = Mapping[str, Waiting]
"""Name of a part of a role's work -> its backlog."""
Position = tuple[int, int]
"""(how far it is written, how far it is handled)"""

log = structlog.get_logger("sidecar.health")


def kafka_reads(namespace: Namespace) -> Mapping[str, Mapping[str, tuple[str, tuple[str, ...]]]]:
    """Return role -> consumer -> (topic, consumer groups that it may be in)."""
    topics = Topics.of(namespace)

    def read(topic: str, *groups: str) -> tuple[str, tuple[str, ...]]:
        return topic, tuple(map(namespace.name, groups))

    return {
        "collector": {"collector": read(topics.ingress, "collector", _WORKER)},
        "calculator": {"calculator": read(topics.candles, "calculator", _WORKER)},
        "alerts": {"alerts": read(topics.metrics, "alerts", _WORKER)},
        "market": {"market": read(topics.metrics, "market")},
        "sinks": {
            "sinks-candles": read(topics.candles, "sinks-candles"),
            "sinks-metrics": read(topics.metrics, "sinks-metrics"),
            "sinks-alerts": read(topics.alerts, "sinks-alerts"),
        },
        "webhooks": {"webhooks": read(topics.alerts, "webhooks")},
    }


class Backlogs:
    """Backlogs of all roles that read from Kafka or NATS; `run` polls until cancelled."""

    def __init__(self, kafka: KafkaAccess, nats: NatsAccess, clock: Clock, every_s: float) -> None:
        self._kafka_access = kafka
        self._nats_access = nats
        self._clock = clock
        self._every_s = every_s
        self._reads = kafka_reads(kafka.namespace)
        self._backlogs: dict[tuple[str, TopicPartition | str], Backlog] = {}
        self._found: dict[str, dict[str, Waiting]] = {}

    def of(self, role: str) -> Work:
        """Return the last values; empty while the server does not answer."""
        return self._found.get(role, {})

    async def run(self) -> None:
        """Poll until cancelled."""
        await together(self._look_for_ever(self._kafka), self._look_for_ever(self._nats))

    async def _look_for_ever(self, looks: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await looks()
            except _FAULTS as error:
                log.debug("backlogs_unknown", fault=repr(error))
            await asyncio.sleep(self._every_s)

    async def _nats(self) -> None:
        try:
            position = await to_its_end(bridge_position(self._nats_access))
        except _FAULTS:
            self._found.pop("bridge", None)
            raise
        self._found["bridge"] = {} if position is None else {"nats": self._look("bridge", "nats", position)}

    async def _kafka(self) -> None:
        """Poll Kafka until it fails."""
        access = client_options(self._kafka_access)
        async with AsyncExitStack() as clients:
            clients.callback(self._forget_kafka)
            admin = AIOKafkaAdminClient(**access)
            clients.push_async_callback(admin.close)
            await to_its_end(admin.start())
            consumer = AIOKafkaConsumer(**access, enable_auto_commit=False)
            clients.push_async_callback(consumer.stop)
            await to_its_end(consumer.start())
            while True:
                await to_its_end(self._look_at_groups(admin, consumer))
                await asyncio.sleep(self._every_s)

    def _forget_kafka(self) -> None:
        for role in self._reads:
            self._found.pop(role, None)

    async def _look_at_groups(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> None:
        reads = [read for of_role in self._reads.values() for read in of_role.values()]
        committed: dict[str, Mapping[TopicPartition, OffsetAndMetadata]] = {}
        partitions = [part for topic in sorted({topic for topic, _ in reads}) for part in self._parts(topic)]
        async with asyncio.timeout(_LOOK_TIMEOUT_S):
            begins = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
            # after the ends: a record that comes and is handled meanwhile must not look as if it waited
            for group in sorted({group for _, groups in reads for group in groups}):
                committed[group] = await admin.list_consumer_group_offsets(group)

        def position(part: TopicPartition, groups: tuple[str, ...]) -> Position:
            commits = [committed[group][part].offset for group in groups if part in committed[group]]
            # no group is behind the topic's first record
            return ends[part], min(ends[part], max(begins[part], *commits, 0))

        for role, consumers in self._reads.items():
            self._found[role] = {
                name: Waiting.worst_of(
                    self._look(name, part, position(part, groups)) for part in self._parts(topic)
                )
                for name, (topic, groups) in consumers.items()
            }

    def _parts(self, topic: str) -> list[TopicPartition]:
        kafka = self._kafka_access
        count = 1 if topic == Topics.of(kafka.namespace).alerts else kafka.partitions
        return list(map(partial(TopicPartition, topic), range(count)))

    def _look(self, work: str, part: TopicPartition | str, position: Position) -> Waiting:
        return self._backlogs.setdefault((work, part), Backlog()).look(*position, self._clock.now_ms())
