"""The bridge: candles from NATS into frames on Kafka. NATS is acknowledged only after Kafka has acknowledged.

A crash between the two leaves messages unacknowledged; JetStream delivers them again, and the collector drops
what it already knows. Any number of bridges may run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import uuid4

import numpy as np
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError
from nats.aio.msg import Msg
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential_jitter

from app.candles.batch import CandleBatch
from app.clock import Clock
from app.dead_letters import DeadLetter, DeadLetters
from app.frames import FrameInfo, encode_candles
from app.ingress.pull import CandlePull, connect, note_pending
from app.ingress.wire import parse
from app.kafka import ensure_topics, kafka_producer
from app.settings import Settings
from app.telemetry import nats_metrics, pipeline_metrics
from app.topics import Topics, shard_of
from app.tracing import recorder

STAGE = "bridge"
_BATCHES_IN_FLIGHT = 4
_CANDLE_BYTES = 200
"""Of JSON, about: what limits a batch when messages hold many candles."""
Frame = tuple[int, bytes]
"""(partition, encoded)"""

log = structlog.get_logger(STAGE)


class Bridge:
    """Takes batches from `pull`, sends them to `producer`, acknowledges; `run` until told to stop."""

    def __init__(
        self, pull: CandlePull, producer: AIOKafkaProducer, settings: Settings, clock: Clock
    ) -> None:
        self._pull = pull
        self._producer = producer
        self._settings = settings
        self._clock = clock
        self._topics = Topics.of(settings)
        self._live = settings.name("candles.live.")
        self._shards: dict[str, int] = {}
        self._dead_letters = DeadLetters(
            STAGE, self._send_dead_letter, clock, original_max_bytes=settings.message_max_bytes
        )
        self._slots = asyncio.Semaphore(_BATCHES_IN_FLIGHT)

    async def run(self, stop: asyncio.Event, on_ready: Callable[[bool], None] | None = None) -> None:
        """Raises what made a delivery impossible; until then nothing of it is acknowledged. Calls `on_ready`
        when candles begin to be taken, and with every change after that."""
        ready = False
        max_messages = self._settings.frame_max_rows * self._settings.partitions
        max_bytes = max_messages * _CANDLE_BYTES
        async with asyncio.TaskGroup() as deliveries:
            while not stop.is_set():
                if on_ready and ready != self._pull.ready:
                    ready = not ready
                    on_ready(ready)
                await self._slots.acquire()
                messages = await self._pull.batch(max_messages, max_bytes)
                if not messages:
                    self._slots.release()
                    continue
                nats_metrics().received.inc(len(messages))
                frames, letters = self._translate(messages)
                # handed over here, one batch after the other: frames reach Kafka in the order of NATS
                sent = [(await self._send(frame), frame) for frame in frames]
                deliveries.create_task(self._confirm(messages, sent, letters))

    def _translate(self, messages: Sequence[Msg]) -> tuple[list[Frame], list[DeadLetter]]:
        """(partition, frame) of all good candles, and a dead letter for each other message."""
        began_s, now_ms = time.perf_counter(), self._clock.now_ms()
        parsed = parse(
            [message.data for message in messages],
            ingest_ts_ms=now_ms,
            max_bytes=self._settings.message_max_bytes,
            exchange=self._settings.exchange,
            live={index for index, message in enumerate(messages) if message.subject.startswith(self._live)},
        )
        letters = []
        for found in parsed.rejected:
            message = messages[found.index]
            letters.append(
                DeadLetter(found.reason, found.message, message.subject, found.element or message.data)
            )
        if parsed.batch is None:
            return [], letters
        frames = []
        for shard, part in self._parts(parsed.batch):
            info = FrameInfo({STAGE: now_ms}, uuid4().hex)
            frames.append((shard, encode_candles(part, info)))
            self._note(info.frame_id, shard, len(part), began_s)
        pipeline_metrics().frames.labels(stage=STAGE).inc(len(frames))
        pipeline_metrics().rows.labels(stage=STAGE).inc(len(parsed.batch))
        return frames, letters

    def _note(self, frame_id: str, shard: int, rows: int, began_s: float) -> None:
        log.debug("frame_made", frame_id=frame_id, partition=shard, rows=rows)
        spans = recorder()
        if spans:
            duration_s = time.perf_counter() - began_s
            now_ms = self._clock.now_ms()
            spans.record(STAGE, frame_id, end_ms=now_ms, duration_s=duration_s, rows=rows, partition=shard)

    def _parts(self, batch: CandleBatch) -> Iterator[tuple[int, CandleBatch]]:
        """Parts of one shard each, of at most `frame_max_rows` rows."""
        most = self._settings.frame_max_rows
        shard_of_symbol = np.array([self._shard(symbol) for symbol in batch.symbols], dtype=np.int32)
        shard_of_row = shard_of_symbol[batch.symbol_index]
        for shard in np.unique(shard_of_row).tolist():
            rows = np.flatnonzero(shard_of_row == shard)
            for start in range(0, len(rows), most):
                yield shard, batch.take(rows[start : start + most]).compact()

    def _shard(self, symbol: str) -> int:
        shard = self._shards.get(symbol)
        if shard is None:
            shard = self._shards[symbol] = shard_of(symbol, self._settings.partitions)
        return shard

    async def _send(self, frame: Frame) -> asyncio.Future[Any]:
        """Hands a frame to the producer; the future is done when Kafka has it."""
        partition, data = frame
        async for attempt in _as_long_as_it_takes():
            with attempt:
                handed_over: asyncio.Future[Any] = await self._producer.send(
                    self._topics.ingress, data, key=str(partition).encode(), partition=partition
                )
        return handed_over

    async def _confirm(
        self,
        messages: Sequence[Msg],
        sent: list[tuple[asyncio.Future[Any], Frame]],
        letters: list[DeadLetter],
    ) -> None:
        """Acknowledges the messages to NATS once Kafka has what became of them."""
        try:
            for letter in letters:
                await self._dead_letters.send(letter)
            for future, frame in sent:
                await self._until_delivered(future, frame)
            await self._pull.acknowledge(messages)
        finally:
            self._slots.release()

    async def _until_delivered(self, future: asyncio.Future[Any], frame: Frame) -> None:
        """Returns once Kafka has the frame, sending it again as long as it takes: a broker that is away holds
        everything back, and nothing is acknowledged meanwhile."""
        async for attempt in _as_long_as_it_takes():
            with attempt:
                await (future if attempt.retry_state.attempt_number == 1 else await self._send(frame))

    async def _send_dead_letter(self, record: bytes) -> None:
        async for attempt in _as_long_as_it_takes():
            with attempt:
                await self._producer.send_and_wait(self._topics.dead_letters, record, partition=0)


def _as_long_as_it_takes() -> AsyncRetrying:
    return AsyncRetrying(
        wait=wait_exponential_jitter(multiplier=0.2, max=5.0),
        retry=retry_if_exception(_may_pass),
        before_sleep=_log_failed_send,
        reraise=True,
    )


def _may_pass(error: BaseException) -> bool:
    """Whether sending again can help; a record too large for the broker stays so."""
    return isinstance(error, KafkaTimeoutError) or (isinstance(error, KafkaError) and error.retriable)


def _log_failed_send(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("kafka_send_failed", attempt=state.attempt_number, error=repr(error))


async def run_bridge(
    settings: Settings, clock: Clock, stop: asyncio.Event, on_ready: Callable[[bool], None] | None = None
) -> None:
    """The `bridge` role: runs until `stop` is set; tells `on_ready` whether it can take messages."""
    client = await connect(settings, STAGE)
    try:
        await ensure_topics(settings)
        async with kafka_producer(settings) as producer:
            pull = CandlePull(client, settings, capacity=4 * settings.frame_max_rows * settings.partitions)
            await pull.open()
            log.info("bridge_started", stream=settings.name("candles"), partitions=settings.partitions)
            # asked of the server, because a bridge that Kafka holds up takes no batch that could tell
            noting = asyncio.create_task(note_pending(client, settings), name="nats-pending")
            try:
                await Bridge(pull, producer, settings, clock).run(stop, on_ready)
            finally:
                noting.cancel()
                await asyncio.gather(noting, return_exceptions=True)
            await pull.release()
    finally:
        await client.close()
