"""Writes one topic to one table: batches, offsets, outages, dead letters, barriers.

Order of effects: rows are committed to the database, then barriers are reported, then the offsets are
committed to Kafka. A crash between two of them repeats the batch, which writes the same rows again; no row is
lost. While the database is down the batch waits, and with it the consumer, whose buffer is bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil

import structlog
from aiokafka import (
    AIOKafkaConsumer,
    ConsumerRebalanceListener,
    ConsumerRecord,
    TopicPartition,
)
from aiokafka.errors import CommitFailedError, IllegalStateError

from app.errors import BadInput
from app.process.attempt_records import Record
from app.sinks.edges import SinkEdges
from app.sinks.item_store import Item, ItemStore, attempt_record
from app.sinks.tables import SinkTable
from app.telemetry import pipeline_metrics
from app.wire.barrier import Barrier, StageFacts, latency_facts
from app.wire.dead_letters import DeadLetter, DeadLetters
from app.wire.faults import time_heals
from app.wire.retry import OutageLog, retried

log = structlog.get_logger("sinks")

_POLL_MS = 200
_RECORDS_PER_POLL = 256
_COMMIT_TIMEOUT_S = 10.0
_LATENCIES_KEPT = 50_000


@dataclass(slots=True)
class _Batch:
    """Rows that are read but not yet stored; `offsets` are committed with them."""

    items: list[Item] = field(default_factory=list)
    barriers: list[tuple[int, Barrier]] = field(default_factory=list)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    rows: int = 0
    began_s: float = 0.0


class _Tally:
    """Rows and latencies of a partition since its last barrier."""

    def __init__(self) -> None:
        self.rows = 0
        self.latencies_ms: deque[int] = deque(maxlen=_LATENCIES_KEPT)

    def facts(self) -> StageFacts:
        return {"rows": self.rows, **latency_facts(self.latencies_ms)}


class TopicSink(ConsumerRebalanceListener):  # type: ignore[misc]  # reason: aiokafka has no types
    """Stores the records of one topic until the stop event of its edges."""

    def __init__(self, table: SinkTable, consumer: AIOKafkaConsumer, edges: SinkEdges) -> None:
        self._table = table
        self._consumer = consumer
        self._edges = edges
        self._metrics = pipeline_metrics(edges.registry)
        self._dead_letters = DeadLetters(table.stage, edges.send_letter, edges.clock, self._metrics)
        self._attempts = edges.attempts(table.stage)
        self._items = ItemStore(table, edges, self._attempts, self._refuse)
        self._batch = _Batch()
        self._tallies: dict[int, _Tally] = {}
        self._joined = False
        self._outage = OutageLog(log, "sink_waits", table=table.name)

    @property
    def ready(self) -> bool:
        """Whether it has its share of the partitions, and the database answered last time."""
        return self._joined and self._items.database_answers

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Drop rows that are not stored; the partitions' next owner reads them again."""
        self._batch = _Batch()

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        partitions = {partition.partition for partition in assigned}
        self._tallies = {number: tally for number, tally in self._tallies.items() if number in partitions}
        self._joined = True
        self._edges.readiness_changed()
        log.info("partitions_assigned", topic=self._table.topic, partitions=sorted(partitions))

    async def run(self) -> None:
        """Read and store until stop, then store the records read. Raises errors other than outages."""
        self._attempts.open()
        self._consumer.subscribe([self._table.topic], listener=self)
        try:
            while not self._edges.stop.is_set():
                records = await self._consumer.getmany(
                    timeout_ms=self._poll_ms(), max_records=_RECORDS_PER_POLL
                )
                await self._take_all(records)
                if self._due():
                    await self._flush()
            await self._flush()
        except Exception as error:
            if not (self._edges.stop.is_set() and time_heals(error)):
                raise
            # the batch is not stored, its offsets are not committed, it is read again
            log.warning("stopped_in_outage", topic=self._table.topic, error=str(error))
        finally:
            self._attempts.close()

    def _poll_ms(self) -> int:
        if not self._batch.offsets:
            return _POLL_MS
        waited_ms = (time.monotonic() - self._batch.began_s) * 1000
        return max(0, min(_POLL_MS, ceil(self._table.linger_ms - waited_ms)))

    def _due(self) -> bool:
        batch = self._batch
        if not batch.offsets:
            return False
        waited_ms = (time.monotonic() - batch.began_s) * 1000
        return (
            bool(batch.barriers) or batch.rows >= self._table.max_rows or waited_ms >= self._table.linger_ms
        )

    async def _take_all(self, records: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        batch = self._batch
        for partition, of_partition in records.items():
            if self._batch is not batch:
                # A rebalance dropped the batch meanwhile. These records come again, after the batch's: to
                # keep them now would let their offsets be committed before the others are stored.
                return
            await self._take(partition, of_partition)

    async def _take(self, partition: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        batch = self._batch
        for record in records:
            if not batch.offsets:
                batch.began_s = time.monotonic()
            barrier = Barrier.decode(_value(record))
            if barrier is not None:
                batch.barriers.append((partition.partition, barrier))
            else:
                await self._decode(batch, record)
            batch.offsets[partition] = record.offset + 1
        self._metrics.frames.labels(stage=self._table.stage).inc(len(records))
        self._note_lag(partition, records[-1].offset + 1)

    def _note_lag(self, partition: TopicPartition, next_offset: int) -> None:
        if partition not in self._consumer.assignment():
            return  # a rebalance came in between
        highwater = self._consumer.highwater(partition)
        if highwater is not None:
            lag = self._metrics.consumer_lag
            labels = (self._table.stage, partition.topic, partition.partition)
            lag.labels(*labels).set(max(0, highwater - next_offset))

    async def _decode(self, batch: _Batch, record: ConsumerRecord) -> None:
        mark = attempt_record(record)
        verdict = self._attempts.verdict(mark)
        try:
            if verdict:
                raise verdict.bad_input()
            with self._attempts.watch(mark):
                decoded = self._table.decode(_value(record), record.offset)
        except BadInput as error:
            await self._refuse(record, error.reason, str(error))
            if verdict:
                self._attempts.set_aside(mark, verdict)
            return
        except Exception as error:
            self._attempts.failed(error, mark)
            raise
        if decoded.frame is not None and (refused := decoded.frame.refused):
            await self._refuse(record, max(refused, key=refused.__getitem__), decoded.frame.refusal, refused)
        if decoded.content is not None:
            batch.items.append(Item(record, decoded))
            batch.rows += decoded.rows

    async def _refuse(
        self, record: ConsumerRecord, reason: str, message: str, counts: Mapping[str, int] | None = None
    ) -> None:
        source = f"{record.topic}/{record.partition}/{record.offset}"
        await self._dead_letters.send(DeadLetter(reason, message, source, _value(record), counts or {}))

    async def _flush(self) -> None:
        batch, self._batch = self._batch, _Batch()
        if not batch.offsets:
            return
        await self._items.store(batch.items)
        self._count(batch)
        for item in batch.items:
            self._attempts.done(attempt_record(item.record))
        for partition, offset in batch.offsets.items():
            self._attempts.done(Record(f"{partition.topic}/{partition.partition}", offset - 1))
        for partition, barrier in batch.barriers:
            facts = self._tallies.pop(partition, _Tally()).facts()
            report = partial(self._edges.barriers.report, barrier, self._table.stage, facts)
            await retried(report, self._outage, stop=self._edges.stop)
        await self._commit(batch.offsets)

    def _count(self, batch: _Batch) -> None:
        now_ms = self._edges.clock.now_ms()
        metrics = self._metrics
        metrics.rows.labels(stage=self._table.stage).inc(batch.rows)
        latency = metrics.stage_latency.labels(stage=self._table.stage)
        for item in batch.items:
            tally = self._tallies.setdefault(item.record.partition, _Tally())
            tally.rows += item.decoded.rows
            if item.decoded.first_seen_ms is not None:
                latency_ms = now_ms - item.decoded.first_seen_ms
                latency.observe(latency_ms / 1000)
                tally.latencies_ms.append(latency_ms)

    async def _commit(self, offsets: dict[TopicPartition, int]) -> None:
        owned = self._consumer.assignment()
        mine = {partition: offset for partition, offset in offsets.items() if partition in owned}
        if not mine:
            return
        try:
            async with asyncio.timeout(_COMMIT_TIMEOUT_S):
                await self._consumer.commit(mine)
        except (CommitFailedError, IllegalStateError, TimeoutError) as error:
            # A rebalance came in between, or Kafka is down: whoever reads the batch again writes the same rows.
            log.warning("offsets_not_committed", topic=self._table.topic, error=repr(error))


def _value(record: ConsumerRecord) -> bytes:
    """Return the value of a record; empty for a record without one (a tombstone)."""
    value: bytes = record.value or b""
    return value
