"""[metrics] of all partitions -> sealed minutes -> [market] and [alerts].

One process of the role reads at a time (`one_reader.py`). The offsets that it commits only show how far it is; a start
continues from [market].
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from app.clock import Clock
from app.errors import BadInput
from app.market_wide.fences import Fences
from app.market_wide.kept import Kept
from app.market_wide.minutes import Minutes
from app.process.attempt_records import Record
from app.process.quarantine import Attempts
from app.rules.market.sealing import SealedMinute, Sealing
from app.telemetry import MarketMetrics, PipelineMetrics
from app.wire.barrier import BEHIND_MARKET, Barrier, BarrierReports, StageFacts
from app.wire.dead_letters import DeadLetter, DeadLetters, Send
from app.wire.frames import decode_metrics
from app.wire.topics import shard_of

STAGE: Final = "market"
"""Name of the stage in barriers, and of the consumer group."""
_POLL_MS: Final = 200
_RECORDS_PER_POLL: Final = 64
_MINUTES_AT_ONCE: Final = 20
_AHEAD_MINUTES: Final = 60
"""A partition that is so far ahead of the slowest one is paused, so that its rows do not pile up."""
_BARRIERS_KEPT: Final = 100
_COMMIT_EVERY_S: Final = 1.0
_COMMIT_TIMEOUT_S: Final = 5.0
_BEGIN_BACK_MS: Final = 15 * 60_000
"""Without a position reading begins so far back: the feed and NATS go back no further after a loss of the broker."""

log = structlog.get_logger("market")


@dataclass(frozen=True, slots=True)
class MarketEdges:
    """What the stage needs of Kafka and Redis, as plain functions.

    send_fence: puts a record into a partition of [ingress], from where it follows the candles before it.
    all_entered: returns once every candle that was published until now is in [ingress].
    forward: puts a barrier on [alerts]. send_letter: puts a dead letter on its topic.
    """

    read_kept: Callable[[], Awaitable[Kept]]
    send_fence: Callable[[int, bytes], Awaitable[None]]
    all_entered: Callable[[], Awaitable[None]]
    forward: Callable[[bytes], Awaitable[None]]
    send_letter: Send
    barriers: BarrierReports
    attempts: Attempts
    clock: Clock


@dataclass(frozen=True, slots=True)
class SealLimits:
    """grace_ms: see the setting market_grace_ms. wait_s: how long a partition may be silent that has not answered, and
    how long published candles may take until they are in [ingress]."""

    partitions: int
    grace_ms: int
    wait_s: float


class MarketStage(ConsumerRebalanceListener):  # type: ignore[misc]  # reason: aiokafka has no types
    """Runs until its stop event. Any error other than of a record ends it, to be started again."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        topic: str,
        minutes: Minutes,
        limits: SealLimits,
        edges: MarketEdges,
        facts: Callable[[], StageFacts],
        metrics: MarketMetrics,
        pipeline: PipelineMetrics,
        on_ready: Callable[[bool], None],
    ) -> None:
        """facts: to report at a barrier."""
        self._consumer = consumer
        self._topic = topic
        self._minutes = minutes
        self._limits = limits
        self._edges = edges
        self._facts = facts
        self._metrics = metrics
        self._pipeline = pipeline
        self._dead_letters = DeadLetters(STAGE, edges.send_letter, edges.clock, pipeline)
        self._on_ready = on_ready
        self._reads = False
        self._sealing: Sealing | None = None
        self._read_before: Mapping[int, int] = {}
        """Partition -> offset before which an earlier process counted the late rows."""
        self._fences = Fences(edges.send_fence, edges.all_entered, limits.wait_s, metrics)
        self._barriers: dict[str, dict[int, int]] = {}
        """Id -> partitions in which it arrived, and its offset there."""
        self._paused: set[int] = set()
        self._committed_s = 0.0
        self._working = asyncio.Lock()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Wait for the step under way: the next reader must not find it half done, if that can be helped."""
        async with self._working:
            self._reads, self._sealing = False, None

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._reads = bool(assigned)
        self._metrics.reading.set(self._reads)
        log.info("partitions_assigned", partitions=sorted(one.partition for one in assigned))
        if not assigned:
            self._on_ready(True)

    async def run(self, stop: asyncio.Event) -> None:
        self._edges.attempts.open()
        self._consumer.subscribe([self._topic], listener=self)
        try:
            while not stop.is_set():
                async with self._working:
                    if self._reads and self._sealing is None:
                        await self._take_over()
                records = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_PER_POLL)
                async with self._working:
                    if self._sealing is not None:
                        await self._step(self._sealing, records)
        finally:
            await self._fences.close()
            self._edges.attempts.close()

    async def _take_over(self) -> None:
        kept = await self._edges.read_kept()
        await self._minutes.take_over(kept)
        sealing = Sealing(self._limits.partitions, self._limits.grace_ms)
        if kept.last is not None:
            by_shard: dict[int, list[str]] = {}
            for symbol in kept.last.symbols:
                by_shard.setdefault(shard_of(symbol, self._limits.partitions), []).append(symbol)
            sealing.restore(int(kept.last.open_time_ms[0]), by_shard)
        self._fences.forget()
        self._barriers, self._paused = {}, set()
        self._read_before = {} if kept.position is None else kept.position.read
        sealing.read_from(await self._seek({} if kept.position is None else kept.position.resume))
        self._sealing = sealing
        self._metrics.takeovers.inc()
        log.info("market_taken_over", sealed_ms=sealing.sealed_ms, minutes=len(kept.minutes))
        self._on_ready(True)

    async def _seek(self, resume: Mapping[int, int]) -> dict[int, int]:
        """Seek every partition; return where reading of it begins."""
        parts = [TopicPartition(self._topic, number) for number in range(self._limits.partitions)]
        firsts = await self._consumer.beginning_offsets(parts)
        ends = await self._consumer.end_offsets(parts)
        since_ms = self._edges.clock.now_ms() - _BEGIN_BACK_MS
        recent = await self._consumer.offsets_for_times(dict.fromkeys(parts, since_ms))
        begins: dict[int, int] = {}
        for part in parts:
            wanted = resume.get(part.partition)
            if wanted is None or wanted > ends[part]:
                found = recent[part]
                wanted = ends[part] if found is None else found.offset
            begins[part.partition] = max(firsts[part], wanted)
            self._consumer.seek(part, begins[part.partition])
            self._consumer.resume(part)
        return begins

    async def _step(self, sealing: Sealing, found: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        for part, records in found.items():
            for record in records:
                await self._take(sealing, part.partition, record)
            self._note_progress(part, records)
        await self._seal(sealing)
        await self._fences.send(sealing)
        await self._report_barriers(sealing)
        self._hold_back(sealing)
        await self._commit()

    async def _take(self, sealing: Sealing, partition: int, record: ConsumerRecord) -> None:
        value = record.value or b""
        barrier = Barrier.decode(value)
        if barrier is not None:
            sealing.take(partition, record.offset, None)
            self._note_barrier(barrier, partition, record.offset)
            return
        noted = Record(f"{record.topic}/{record.partition}", record.offset, record.timestamp or 0)
        attempts = self._edges.attempts
        if verdict := attempts.verdict(noted):
            fault = verdict.bad_input()
            source = f"{noted.source}/{noted.offset}"
            await self._dead_letters.send(DeadLetter(fault.reason, str(fault), source, value))
            attempts.set_aside(noted, verdict)
            sealing.take(partition, record.offset, None)
            return
        try:
            with attempts.watch(noted):
                batch, info = decode_metrics(value)
                late = sealing.take(partition, record.offset, batch)
        except BadInput as error:
            # the alert agent reads the same record and sends the dead letter
            self._pipeline.dead_letters.labels(STAGE, error.reason).inc()
            log.warning(
                "record_skipped", topic=record.topic, partition=partition, offset=record.offset,
                fault=str(error),
            )  # fmt: skip
            sealing.take(partition, record.offset, None)
            return
        except Exception as error:
            attempts.failed(error, noted)
            raise
        attempts.done(noted)
        if record.offset >= self._read_before.get(partition, 0):
            self._metrics.late_rows.inc(late)
        self._pipeline.rows.labels(STAGE).inc(len(batch))
        self._fences.heard(sealing, partition, info.frame_id)

    def _note_barrier(self, barrier: Barrier, partition: int, offset: int) -> None:
        self._barriers.setdefault(barrier.id, {})[partition] = offset
        if len(self._barriers) > _BARRIERS_KEPT:
            # its sender ended before all of it was sent
            del self._barriers[next(iter(self._barriers))]

    async def _seal(self, sealing: Sealing) -> None:
        while minutes := list(islice(sealing.sealed(), _MINUTES_AT_ONCE)):
            resume = {
                partition: min(offset, self._waiting_barrier(partition, offset))
                for partition, offset in sealing.resume_at().items()
            }
            await self._minutes.take([minute.rows for minute in minutes], resume, sealing.read_to())
            self._count(minutes)

    def _waiting_barrier(self, partition: int, otherwise: int) -> int:
        return min((at[partition] for at in self._barriers.values() if partition in at), default=otherwise)

    def _count(self, minutes: Sequence[SealedMinute]) -> None:
        now_ms = self._edges.clock.now_ms()
        for minute in minutes:
            self._metrics.missing_symbols.inc(minute.missing)
            latency_ms = now_ms - int(minute.rows.ingest_ts_ms.max())
            self._pipeline.stage_latency.labels(STAGE).observe(max(0, latency_ms) / 1000)

    async def _report_barriers(self, sealing: Sealing) -> None:
        """Report the barriers that have passed: they came on all partitions, and every fence before them is back."""
        if not sealing.is_quiet:
            return
        for identifier, arrived in list(self._barriers.items()):
            if len(arrived) < self._limits.partitions:
                continue
            del self._barriers[identifier]
            for partition in sorted(arrived):
                await self._edges.barriers.report_through_outages(
                    Barrier(identifier, partition), STAGE, self._facts()
                )
                await self._edges.forward(Barrier(identifier + BEHIND_MARKET, partition).encode())

    def _hold_back(self, sealing: Sealing) -> None:
        for partition in range(self._limits.partitions):
            part = TopicPartition(self._topic, partition)
            ahead = sealing.pending_minutes(partition) > _AHEAD_MINUTES and sealing.is_ahead(partition)
            if ahead and partition not in self._paused:
                self._consumer.pause(part)
                self._paused.add(partition)
            elif not ahead and partition in self._paused:
                self._consumer.resume(part)
                self._paused.discard(partition)

    def _note_progress(self, part: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        self._pipeline.frames.labels(STAGE).inc(len(records))
        highwater = self._consumer.highwater(part)
        if highwater is not None and records:
            lag = max(0, highwater - records[-1].offset - 1)
            self._pipeline.consumer_lag.labels(STAGE, part.topic, part.partition).set(lag)

    async def _commit(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._committed_s < _COMMIT_EVERY_S or self._sealing is None:
            return
        self._committed_s = now_s
        owned = {part.partition: part for part in self._consumer.assignment()}
        offsets = {
            owned[partition]: offset
            for partition, offset in self._sealing.read_to().items()
            if partition in owned
        }
        if not offsets:
            return
        try:
            async with asyncio.timeout(_COMMIT_TIMEOUT_S):
                await self._consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError, KafkaError, TimeoutError) as error:
            log.warning("offsets_not_committed", topic=self._topic, error=repr(error))
