"""Following a Kafka topic from a little before its end, for as long as the process lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from app.errors import ServerUnreachable, SettingsError
from app.library_internals import close_client
from app.process.tasks import to_its_end
from app.telemetry import PipelineMetrics
from app.wire.kafka import GATHERING, REQUEST_MAX_BYTES, require_partitions
from app.wire.retry import OutageLog, retried

_POLL_MS = 500
_CHECK_EVERY_S = 2.0
_ANSWER_WITHIN_S = 5.0

log = structlog.get_logger("sidecar.follower")

Take = Callable[[Sequence[ConsumerRecord], bool], None]
"""Handles records of one partition in order; the flag tells whether they are new (False: they were there at the
start). Must not raise for an invalid record, nor block."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The start offset of a partition. `first`: the oldest record the broker has."""

    offset: int
    first: int


@dataclass(frozen=True, slots=True)
class StartAt:
    """records_back: how far before the end reading starts. at_once: most records taken without a pause."""

    records_back: int
    at_once: int


class TopicFollower:
    """Reads all partitions of a topic without a consumer group; every sidecar follows for itself.

    It starts a little before the end, and after a loss of the broker continues where it was. `begin` is
    called for each partition when reading begins somewhere new: at the start, and when the records at the
    position are no longer there (the topic was re-created, or they expired). While the topic has another number of
    partitions, nothing is read: part of the symbols would look like all of them. `access`: see app.wire.kafka.
    """

    def __init__(
        self,
        access: Mapping[str, Any],
        topic: str,
        partitions: int,
        start: StartAt,
        take: Take,
        begin: Callable[[int, Beginning], None],
        metrics: PipelineMetrics,
        gathers: bool = False,
    ) -> None:
        """gathers: see app.wire.kafka."""
        self.topic = topic
        self.connected = False
        self.caught_up = False
        """Whether everything that was there at the start has been read."""
        self._access = {**access, "fetch_max_wait_ms": _POLL_MS, **(GATHERING if gathers else {})}
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]
        self._start = start
        self._take = take
        self._begin = begin
        self._metrics = metrics
        self._next: dict[TopicPartition, int] = {}
        self._goal: dict[TopicPartition, int] = {}
        self._outage = OutageLog(log, "cannot_follow", topic=topic)
        self._lost: set[TopicPartition] = set()

    @property
    def position(self) -> Mapping[int, int]:
        """Partition -> offset of the next record to read."""
        return {partition.partition: offset for partition, offset in self._next.items()}

    async def run(self) -> None:
        """Run until cancelled. Broker errors are logged and retried."""
        while True:
            try:
                await retried(self._follow, self._outage, heals=_heals)
            except OffsetOutOfRangeError as error:
                log.warning("records_are_gone", topic=self.topic, positions=repr(error))
                self._lost.update(error.args[0])

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            **self._access,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=REQUEST_MAX_BYTES,
            request_timeout_ms=int(_ANSWER_WITHIN_S * 2000),
        )
        try:
            await to_its_end(consumer.start())
            if self.topic not in await consumer.topics():
                raise ServerUnreachable(f"topic {self.topic!r} does not exist yet")
            consumer.assign(self._partitions)
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                # every topic has this partition; the answer brings the number of all partitions
                await consumer.end_offsets(self._partitions[:1])
            self._require_partitions(consumer)
            await self._seek(consumer)
            await self._read(consumer)
        finally:
            self.connected = False
            await _stop(consumer)

    def _require_partitions(self, consumer: AIOKafkaConsumer) -> None:
        found = consumer.partitions_for_topic(self.topic) or ()
        require_partitions({self.topic: len(found)}, {self.topic: len(self._partitions)})

    async def _seek(self, consumer: AIOKafkaConsumer) -> None:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            firsts = await consumer.beginning_offsets(self._partitions)
            ends = await consumer.end_offsets(self._partitions)
        for partition in self._partitions:
            first, end, known = firsts[partition], ends[partition], self._next.get(partition)
            gone = partition in self._lost or (known is not None and not first <= known <= end)
            if known is None or gone:
                offset = first if gone else max(first, end - self._start.records_back)
                self._begin(partition.partition, Beginning(offset, first))
                self._next[partition] = offset
            consumer.seek(partition, self._next[partition])
        self._lost.clear()
        self._goal = ends

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        loop = asyncio.get_running_loop()
        check_at = loop.time()
        while True:
            self._note_progress()
            found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=self._start.at_once)
            for partition, records in found.items():
                self._take(records, self.caught_up)
                self._next[partition] = records[-1].offset + 1
            # buffered records come without a pause, and there are clients to serve
            await asyncio.sleep(0)
            if loop.time() >= check_at:
                await self._check(consumer)
                check_at = loop.time() + _CHECK_EVERY_S

    def _note_progress(self) -> None:
        if not self.caught_up:
            self.caught_up = all(self._next[partition] >= end for partition, end in self._goal.items())

    async def _check(self, consumer: AIOKafkaConsumer) -> None:
        """Ask the broker for the ends: it raises when the broker is down, which reading does not."""
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            ends = await consumer.end_offsets(self._partitions)
        self._require_partitions(consumer)
        self.connected = True
        self._outage.over()
        for partition, end in ends.items():
            self._metrics.consumer_lag.labels("sidecar", self.topic, str(partition.partition)).set(
                max(0, end - self._next[partition])
            )


def _heals(error: BaseException) -> bool:
    """Return whether to retry: also faults that a person must fix, for example a missing right, because no work depends
    on a follower."""
    heals = (KafkaError, ServerUnreachable, SettingsError, OSError)
    return isinstance(error, heals) and not isinstance(error, OffsetOutOfRangeError)


async def _stop(consumer: AIOKafkaConsumer) -> None:
    """Stop in a task of its own: stopping aiokafka's consumer ends as cancelled when a fetch was under way to a
    broker that is gone, and leaves the connections open."""
    stopping = asyncio.create_task(consumer.stop())
    await asyncio.wait([stopping])
    if stopping.cancelled():
        await close_client(consumer)
