"""Delivers candles from NATS to Kafka. NATS is acknowledged only after Kafka has acknowledged.

A crash between the two leaves messages unacknowledged; JetStream delivers them again, and the collector drops
known candles. Any number of bridges may run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from nats.aio.msg import Msg
from prometheus_client import CollectorRegistry

from app.bridge.translation import STAGE, BridgeOptions, Frame, Translation
from app.clock import Clock
from app.process.attempt_records import Record
from app.process.quarantine import Attempts, is_outage
from app.telemetry import nats_metrics, pipeline_metrics
from app.wire.dead_letters import DeadLetter, DeadLetters
from app.wire.faults import time_heals
from app.wire.nats.pull import CandlePull
from app.wire.nats.stream import stream_name
from app.wire.retry import OutageLog, retried
from app.wire.topics import Topics

_BATCHES_IN_FLIGHT = 4
_CANDLE_BYTES = 200
"""Estimated JSON size of a candle: limits a batch whose messages hold many candles."""
_WORDS_WITH_DOMAIN = 11

log = structlog.get_logger(STAGE)


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
        metrics = pipeline_metrics(registry)
        self._nats_metrics = nats_metrics(registry)
        self._pull = pull
        self._producer = producer
        self._translation = Translation(options, clock, metrics)
        self._options = options
        self._topics = Topics.of(options.namespace)
        self._dead_letters = DeadLetters(
            STAGE, self._send_dead_letter, clock, metrics, original_max_bytes=options.message_max_bytes
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
                    frames, letters = self._translation.frames(messages)
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
        frames, letters = self._translation.frames(messages)
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
