"""The bridge: candles from NATS into frames on Kafka. NATS is acknowledged only after Kafka has acknowledged.

A crash between the two leaves messages unacknowledged; JetStream delivers them again, and the collector drops
known candles. Any number of bridges may run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any
from uuid import uuid4

import numpy as np
import structlog
from aiokafka import AIOKafkaProducer
from nats.aio.msg import Msg
from prometheus_client import CollectorRegistry

from app.candles.batch import CandleBatch
from app.clock import Clock
from app.process.attempt_records import Record
from app.process.quarantine import Attempts, is_outage
from app.process.tasks import ended, kept_running
from app.settings import Settings
from app.settings.access import Namespace
from app.telemetry import nats_metrics, pipeline_metrics
from app.telemetry.catalogue import RoleRegistry
from app.telemetry.tracing import recorder
from app.wire.dead_letters import DeadLetter, DeadLetters
from app.wire.faults import time_heals
from app.wire.frames import FrameInfo, encode_candles
from app.wire.kafka import ensure_topics, kafka_producer
from app.wire.nats.candles import parse
from app.wire.nats.progress import note_pending
from app.wire.nats.pull import CandlePull
from app.wire.nats.stream import connect, stream_name
from app.wire.retry import OutageLog, retried
from app.wire.topics import Topics, shard_of

STAGE = "bridge"
_BATCHES_IN_FLIGHT = 4
_CANDLE_BYTES = 200
"""Estimated JSON size of a candle: limits a batch whose messages hold many candles."""
_WORDS_WITH_DOMAIN = 11
_SHARDS_KEPT = 16_384
"""Symbols whose shard is cached: more than one message of a megabyte can name."""
Frame = tuple[int, bytes]
"""(partition, encoded)"""

log = structlog.get_logger(STAGE)


@dataclass(frozen=True, slots=True)
class BridgeOptions:
    """A bridge's sources and the options of its frames."""

    namespace: Namespace
    partitions: int
    exchange: str
    """Exchange of candles that do not name one."""
    message_max_bytes: int
    """Larger messages are rejected."""
    frame_max_rows: int

    @property
    def batch_max_messages(self) -> int:
        return self.frame_max_rows * self.partitions


class Bridge:
    """Reads batches from `pull`, sends them to `producer`, and then acknowledges them."""

    def __init__(
        self,
        pull: CandlePull,
        producer: AIOKafkaProducer,
        options: BridgeOptions,
        clock: Clock,
        attempts: Attempts,
        registry: CollectorRegistry,
    ) -> None:
        """registry: of the role's metrics."""
        self._metrics, self._nats_metrics = pipeline_metrics(registry), nats_metrics(registry)
        self._pull = pull
        self._producer = producer
        self._options = options
        self._clock = clock
        self._topics = Topics.of(options.namespace)
        self._live = options.namespace.name("candles.live.")
        self._shard = lru_cache(_SHARDS_KEPT)(partial(shard_of, partitions=options.partitions))
        self._dead_letters = DeadLetters(
            STAGE, self._send_dead_letter, clock, self._metrics, original_max_bytes=options.message_max_bytes
        )
        self._slots = asyncio.Semaphore(_BATCHES_IN_FLIGHT)
        self._stream = stream_name(options.namespace)
        self._attempts = attempts
        self._stop = asyncio.Event()
        self._handing_over = OutageLog(log, "kafka_send_failed", step="buffer")
        self._delivering = OutageLog(log, "kafka_send_failed", step="acknowledgement")

    async def run(self, stop: asyncio.Event, on_ready: Callable[[bool], None] | None = None) -> None:
        """Run until `stop` is set. Raises the error that made a delivery impossible; its messages stay unacknowledged.
        Calls `on_ready` when the bridge can first receive candles, and with every later change."""
        self._stop = stop
        try:
            await self._run(on_ready)
        except* Exception as failed:
            if not (stop.is_set() and all(map(time_heals, failed.exceptions))):
                raise
            # not acknowledged: NATS delivers it again
            log.warning("stopped_in_outage", error=repr(failed.exceptions[0]))

    async def _run(self, on_ready: Callable[[bool], None] | None) -> None:
        ready = False
        max_messages = self._options.batch_max_messages
        max_bytes = max_messages * _CANDLE_BYTES
        async with asyncio.TaskGroup() as deliveries:
            while not self._stop.is_set():
                if on_ready and ready != self._pull.ready:
                    ready = not ready
                    on_ready(ready)
                await self._slots.acquire()
                messages = await self._pull.batch(max_messages, max_bytes)
                if not messages:
                    self._slots.release()
                    continue
                self._nats_metrics.received.inc(len(messages))
                records = [self._record(message) for message in messages]
                if any(map(self._attempts.is_known, records)):
                    for message, record in zip(messages, records, strict=True):
                        await self._deliver_alone(message, record)
                    self._slots.release()
                    continue
                with self._counting(records), self._attempts.watch(*records):
                    frames, letters = self._translate(messages)
                # handed over here, one batch after the other: frames reach Kafka in the order of NATS
                sent = [(await self._send(frame), frame) for frame in frames]
                deliveries.create_task(self._confirm_batch(messages, records, sent, letters))

    def _record(self, message: Msg) -> Record:
        """Identify a message by its position in the stream: `$JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE.N.TIME...`;
        a server with domains adds two words after ACK."""
        words = message.reply.split(".")
        at = 5 if len(words) < _WORDS_WITH_DOMAIN else 7
        return Record(self._stream, int(words[at]), int(words[at + 2]))

    @contextmanager
    def _counting(self, records: Sequence[Record]) -> Iterator[None]:
        """Count an error within against the records, unless it is a server's fault."""
        try:
            yield
        except Exception as error:
            if not is_outage(error):
                self._attempts.failed(error, *records)
            raise

    async def _deliver_alone(self, message: Msg, record: Record) -> None:
        """Deliver a message at which a process ended, or may have ended; set the whole message aside at the third
        end."""
        verdict = self._attempts.verdict(record)
        if verdict:
            refusal = verdict.bad_input()
            letter = DeadLetter(refusal.reason, str(refusal), message.subject, message.data)
            await self._dead_letters.send(letter)
            await self._pull.acknowledge([message])
            self._attempts.set_aside(record, verdict)
            return
        with self._counting([record]):
            await self._attempts.watched(self._deliver([message]), record)
        self._attempts.done(record)

    async def _deliver(self, messages: Sequence[Msg]) -> None:
        frames, letters = self._translate(messages)
        sent = [(await self._send(frame), frame) for frame in frames]
        await self._confirm(messages, sent, letters)

    async def _confirm_batch(
        self,
        messages: Sequence[Msg],
        records: Sequence[Record],
        sent: list[tuple[asyncio.Future[Any], Frame]],
        letters: list[DeadLetter],
    ) -> None:
        try:
            with self._counting(records):
                await self._attempts.watched(self._confirm(messages, sent, letters), *records)
        finally:
            self._slots.release()

    def _translate(self, messages: Sequence[Msg]) -> tuple[list[Frame], list[DeadLetter]]:
        """Return (partition, frame) for all valid candles, and a dead letter for each message with invalid content."""
        began_s, now_ms = time.perf_counter(), self._clock.now_ms()
        parsed = parse(
            [message.data for message in messages],
            ingest_ts_ms=now_ms,
            max_bytes=self._options.message_max_bytes,
            exchange=self._options.exchange,
            live={index for index, message in enumerate(messages) if message.subject.startswith(self._live)},
        )
        letters = []
        for found in parsed.rejected:
            message = messages[found.index]
            original = found.original or message.data
            counts = {str(reason): count for reason, count in found.counts.items()}
            letters.append(DeadLetter(found.reason, found.message, message.subject, original, counts))
        if parsed.batch is None:
            return [], letters
        frames = []
        for shard, part in self._parts(parsed.batch):
            info = FrameInfo({STAGE: now_ms}, uuid4().hex)
            frames.append((shard, encode_candles(part, info)))
            self._note(info.frame_id, shard, len(part), began_s)
        self._metrics.frames.labels(stage=STAGE).inc(len(frames))
        self._metrics.rows.labels(stage=STAGE).inc(len(parsed.batch))
        return frames, letters

    def _note(self, frame_id: str, shard: int, rows: int, began_s: float) -> None:
        log.debug("frame_made", frame_id=frame_id, partition=shard, rows=rows)
        spans = recorder()
        if spans:
            duration_s = time.perf_counter() - began_s
            now_ms = self._clock.now_ms()
            spans.record(STAGE, frame_id, end_ms=now_ms, duration_s=duration_s, rows=rows, partition=shard)

    def _parts(self, batch: CandleBatch) -> Iterator[tuple[int, CandleBatch]]:
        """Yield parts of one shard each, of at most `frame_max_rows` rows."""
        most = self._options.frame_max_rows
        shard_of_symbol = np.array([self._shard(symbol) for symbol in batch.symbols], dtype=np.int32)
        shard_of_row = shard_of_symbol[batch.symbol_index]
        for shard in np.unique(shard_of_row).tolist():
            rows = np.flatnonzero(shard_of_row == shard)
            for start in range(0, len(rows), most):
                yield shard, batch.take(rows[start : start + most]).compact()

    async def _send(self, frame: Frame) -> asyncio.Future[Any]:
        """Hand a frame to the producer; the future is done when Kafka has it."""
        partition, data = frame
        key = str(partition).encode()
        handed_over: asyncio.Future[Any] = await retried(
            lambda: self._producer.send(self._topics.ingress, data, key=key, partition=partition),
            self._handing_over,
            stop=self._stop,
        )
        return handed_over

    async def _confirm(
        self,
        messages: Sequence[Msg],
        sent: list[tuple[asyncio.Future[Any], Frame]],
        letters: list[DeadLetter],
    ) -> None:
        """Acknowledge the messages to NATS once Kafka has their frames or dead letters."""
        for letter in letters:
            await self._dead_letters.send(letter)
        for future, frame in sent:
            await self._until_delivered(future, frame)
        await self._pull.acknowledge(messages)

    async def _until_delivered(self, future: asyncio.Future[Any], frame: Frame) -> None:
        """Wait until Kafka has the frame, sending it again as long as it takes: a broker that is down holds
        all batches back, and no message is acknowledged meanwhile."""
        waiting: asyncio.Future[Any] | None = future

        async def delivered() -> None:
            nonlocal waiting
            answer = waiting or await self._send(frame)
            # a future has one result: after a failure only another send can help
            waiting = None
            await answer

        await retried(delivered, self._delivering, stop=self._stop)

    async def _send_dead_letter(self, record: bytes) -> None:
        await retried(
            lambda: self._producer.send_and_wait(self._topics.dead_letters, record, partition=0),
            self._delivering,
            stop=self._stop,
        )


async def run_bridge(
    settings: Settings,
    clock: Clock,
    registry: RoleRegistry,
    stop: asyncio.Event,
    on_ready: Callable[[bool], None] | None = None,
) -> None:
    """Run the `bridge` role until `stop` is set; tell `on_ready` whether it can take messages."""
    nats, kafka = settings.nats(), settings.kafka()
    options = BridgeOptions(
        namespace=settings.names(),
        partitions=settings.partitions,
        exchange=settings.exchange,
        message_max_bytes=settings.message_max_bytes,
        frame_max_rows=settings.frame_max_rows,
    )
    attempts = Attempts(settings.data_dir, settings.name(STAGE), pipeline_metrics(registry), in_order=False)
    attempts.open()
    client = await connect(nats.url, STAGE)
    try:
        await ensure_topics(kafka)
        async with kafka_producer(kafka) as producer:
            pull = CandlePull(
                client,
                nats.namespace,
                capacity=4 * options.batch_max_messages,
                frame_max_delay_ms=settings.frame_max_delay_ms,
                replicas=nats.replicas,
            )
            await pull.open(stop)
            log.info("bridge_started", stream=settings.name("candles"), partitions=settings.partitions)
            # polls the server, because a bridge that waits for Kafka fetches no batch that could tell
            noting = asyncio.create_task(
                kept_running(
                    "nats-pending", lambda: note_pending(client, nats.namespace, nats_metrics(registry))
                ),
                name="nats-pending",
            )
            try:
                await Bridge(pull, producer, options, clock, attempts, registry).run(stop, on_ready)
            finally:
                await ended(noting)
            await pull.release()
    finally:
        attempts.close()
        await client.close()
