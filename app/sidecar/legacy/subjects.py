"""`alerts.triggered` and `metrics.calculated` on JetStream, as the earlier services published them.

Each subject is filled from its Kafka topic by a consumer group that all sidecars share. A record is committed when
JetStream has confirmed its messages: at least once, with a `Nats-Msg-Id` by which JetStream drops repeats of the last
two minutes. While NATS is down the records wait in Kafka, and nothing else waits with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isnan
from typing import Final
from zlib import crc32

import numpy as np
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from app.candles.batch import MINUTE_MS
from app.errors import BadInput, ServerUnreachable
from app.process.quarantine import Attempts
from app.rules.alert import Alert
from app.settings.access import KafkaAccess, Namespace, NatsAccess
from app.sidecar.legacy.shapes import alert_json, published_metrics
from app.sidecar.state.feeds import BadRecords
from app.telemetry import PipelineMetrics, SidecarMetrics
from app.wire.barrier import Barrier
from app.wire.frames import decode_metrics
from app.wire.kafka import group_consumer
from app.wire.nats.stream import connect, stream_name
from app.wire.retry import OutageLog, retried
from app.wire.topics import Topics

_KEPT_S: Final = 3_600
_KEPT_BYTES: Final = 128 * 1024 * 1024
"""Size limit of each stream; the oldest messages are dropped first."""
_REPEATS_KNOWN_S: Final = 120
_POLL_MS: Final = 500
_RECORDS_AT_ONCE: Final = 64
_MESSAGES_AT_ONCE: Final = 256
"""Most messages of a subject in flight at a time."""
_ACK_WAIT_S: Final = 5.0
_HEADERS_MAX_BYTES: Final = 1_024

log = structlog.get_logger("sidecar.legacy")


@dataclass(frozen=True, slots=True)
class Message:
    """identifier: the same each time the same message is sent."""

    identifier: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Subject:
    """name: the earlier system's name of the subject; its first part names the stream. messages: yields the messages of
    a record, given its value and offset; raises BadInput."""

    name: str
    topic: str
    messages: Callable[[bytes, int], Iterator[Message]]

    @property
    def family(self) -> str:
        return self.name.partition(".")[0]

    @property
    def stage(self) -> str:
        """Consumer group, and label of metrics."""
        return f"legacy-{self.family}"


def subjects(namespace: Namespace, backfilled_after_ms: int) -> tuple[Subject, Subject]:
    """Return the subjects of alerts and of metrics. backfilled_after_ms: metrics calculated longer than this after the
    end of their minute are backfilled, and left out like backfilled alerts; 0 leaves out no metrics."""
    topics = Topics.of(namespace)

    def metrics(value: bytes, _: int) -> Iterator[Message]:
        return metric_messages(value, backfilled_after_ms)

    return (
        Subject("alerts.triggered", topics.alerts, alert_messages),
        Subject("metrics.calculated", topics.metrics, metrics),
    )


def alert_messages(value: bytes, offset: int) -> Iterator[Message]:
    """Yield the message of an alert; nothing for a barrier, a backfilled alert or an alert of a shadow rule."""
    if Barrier.decode(value) is None:
        alert = Alert.decode(value, offset)
        if not alert.backfilled and not alert.shadow:
            yield Message(alert.id, alert_json(alert))


def metric_messages(value: bytes, backfilled_after_ms: int) -> Iterator[Message]:
    """Yield a message for each closed minute of a symbol in the frame."""
    if Barrier.decode(value) is not None:
        return
    batch, info = decode_metrics(value)
    sent_ms = info.stage_ts_ms.get("calculator")
    position = {column: at for at, column in enumerate(batch.columns)}
    for row in np.flatnonzero(batch.closed).tolist():
        open_ms = int(batch.open_time_ms[row])
        end_ms = open_ms + MINUTE_MS
        if sent_ms is not None and backfilled_after_ms and sent_ms - end_ms > backfilled_after_ms:
            continue
        values = batch.values[row].tolist()

        def known(column: str, values: Sequence[float] = values) -> float | None:
            at = position.get(column)
            return None if at is None or isnan(values[at]) else values[at]

        symbol = batch.symbol_of(row)
        payload = published_metrics(symbol, end_ms, known)
        yield Message(f"{symbol}-{open_ms}-{crc32(payload):08x}", payload)


class SubjectPublisher:
    """Publishes one subject until cancelled; faults of NATS and Kafka are waited out, and logged."""

    def __init__(
        self,
        subject: Subject,
        kafka: KafkaAccess,
        nats: NatsAccess,
        attempts: Attempts,
        pipeline: PipelineMetrics,
        gateway: SidecarMetrics,
    ) -> None:
        self.subject = subject
        self._kafka = kafka
        self._nats = nats
        self._bad = BadRecords(subject.stage, pipeline, attempts)
        self._attempts = attempts
        self._lag = pipeline.consumer_lag
        self._sent = gateway.subject_messages.labels(subject.name)
        self._failed = gateway.subject_failures.labels(subject.name)
        self._outage = OutageLog(log, "cannot_publish", subject=subject.name)
        self._owned: frozenset[TopicPartition] = frozenset()

    @property
    def joined(self) -> bool:
        """Whether it has partitions of the topic; of a topic with one partition, only one sidecar has it."""
        return bool(self._owned)

    async def run(self) -> None:
        self._attempts.open()
        try:
            await retried(self._publish, self._outage, heals=_heals, on_failure=self._note_failure)
        finally:
            self._attempts.close()

    def _note_failure(self, _: BaseException) -> None:
        self._failed.inc()

    async def _publish(self) -> None:
        client = await connect(self._nats.url, self.subject.stage)
        try:
            await self._ensure_stream(client)
            async with group_consumer(self._kafka, self.subject.stage, begins="latest") as consumer:
                consumer.subscribe([self.subject.topic])
                await self._follow(consumer, client)
        finally:
            self._owned = frozenset()
            await client.close()

    async def _ensure_stream(self, client: Client) -> None:
        """Create the stream if it is missing; an existing one stays as it is."""
        jetstream, namespace = client.jetstream(timeout=_ACK_WAIT_S), self._nats.namespace
        name = stream_name(namespace, self.subject.family)
        try:
            await jetstream.stream_info(name)
        except NotFoundError:
            await jetstream.add_stream(
                StreamConfig(
                    name=name,
                    subjects=[namespace.name(f"{self.subject.family}.>")],
                    storage=StorageType.FILE,
                    retention=RetentionPolicy.LIMITS,
                    max_age=_KEPT_S,
                    max_bytes=_KEPT_BYTES,
                    duplicate_window=_REPEATS_KNOWN_S,
                    num_replicas=self._nats.replicas,
                )
            )

    async def _follow(self, consumer: AIOKafkaConsumer, client: Client) -> None:
        while True:
            await self._note_beginnings(consumer)
            found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_AT_ONCE)
            for records in found.values():
                for record in records:
                    await self._send(client, record)
            self._outage.over()
            done = {partition: records[-1].offset + 1 for partition, records in found.items()}
            await self._commit(consumer, done)

    async def _note_beginnings(self, consumer: AIOKafkaConsumer) -> None:
        """Commit the first position of newly assigned partitions: a process that ends before it commits a record then
        loses no record."""
        owned = frozenset(consumer.assignment())
        if gained := owned - self._owned:
            positions = {partition: await consumer.position(partition) for partition in gained}
            await self._commit(consumer, positions)
        self._owned = owned

    async def _commit(self, consumer: AIOKafkaConsumer, offsets: dict[TopicPartition, int]) -> None:
        owned = consumer.assignment()
        if mine := {partition: offset for partition, offset in offsets.items() if partition in owned}:
            await consumer.commit(mine)
        for partition, offset in mine.items():
            highwater = consumer.highwater(partition)
            if highwater is not None:
                lag = self._lag.labels(self.subject.stage, partition.topic, str(partition.partition))
                lag.set(max(0, highwater - offset))

    async def _send(self, client: Client, record: ConsumerRecord) -> None:
        """Publish the messages of a record and wait until JetStream has them. Raises the client's errors."""
        if self._bad.is_set_aside(record):
            return
        messages = self.subject.messages(record.value or b"", record.offset)
        most_bytes = client.max_payload - _HEADERS_MAX_BYTES
        while True:
            part: list[Message] = []
            with self._bad.skipping(record):
                part = list(islice(messages, _MESSAGES_AT_ONCE))
            if not part:
                return
            fitting = [message for message in part if len(message.payload) <= most_bytes]
            if len(fitting) < len(part):
                self._bad.note(record, BadInput("too_large", "a message is larger than NATS takes"))
            answers = await asyncio.gather(
                *(self._send_one(client, message) for message in fitting), return_exceptions=True
            )
            self._sent.inc(sum(not isinstance(answer, BaseException) for answer in answers))
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer

    async def _send_one(self, client: Client, message: Message) -> None:
        await client.jetstream().publish(
            self._nats.namespace.name(self.subject.name),
            message.payload,
            timeout=_ACK_WAIT_S,
            headers={"Nats-Msg-Id": message.identifier},
        )


def _heals(error: BaseException) -> bool:
    """Return whether to retry: also faults that a person must fix, for example a missing right, because no other work
    depends on the subject."""
    return isinstance(error, (KafkaError, NatsError, ServerUnreachable, OSError))
