"""One topic into one table: batches, offsets, outages, dead letters, barriers.

Order of effects: rows are committed to the database, then barriers are reported, then the offsets are
committed to Kafka. A crash between two of them repeats the batch, which writes the same rows again; it never
loses one. While the database is away the batch waits, and with it the consumer, whose buffer is bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import Any

import numpy as np
import psycopg
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError

from app.barrier import Barrier, BarrierReports
from app.clock import Clock
from app.database.connection import Pool
from app.database.outages import OUTAGES, until_done
from app.database.sink_tables import Decoded, SinkTable
from app.dead_letters import DeadLetter, DeadLetters, Send
from app.errors import BadInput
from app.telemetry import database_metrics, pipeline_metrics
from app.tracing import recorder

log = structlog.get_logger("sinks")

_POLL_MS = 200
_RECORDS_PER_POLL = 256
_CONNECTION_TIMEOUT_S = 5.0
_COMMIT_TIMEOUT_S = 10.0
_LATENCIES_KEPT = 50_000


@dataclass(slots=True)
class _Item:
    record: ConsumerRecord
    decoded: Decoded


@dataclass(slots=True)
class _Batch:
    """What is read but not yet stored; `offsets` are the ones to commit with it."""

    items: list[_Item] = field(default_factory=list)
    barriers: list[tuple[int, Barrier]] = field(default_factory=list)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    rows: int = 0
    began_s: float = 0.0


class _Tally:
    """Rows and latencies of a partition since its last barrier."""

    def __init__(self) -> None:
        self.rows = 0
        self.latencies_ms: deque[int] = deque(maxlen=_LATENCIES_KEPT)

    def facts(self) -> dict[str, Any]:
        p50 = p99 = None
        if self.latencies_ms:
            p50, p99 = (float(value) for value in np.percentile(np.array(self.latencies_ms), [50, 99]))
        return {"rows": self.rows, "p50_ms": p50, "p99_ms": p99}


@dataclass(frozen=True, slots=True)
class SinkEdges:
    """What all sinks of a process share."""

    pool: Pool
    send_letter: Send
    barriers: BarrierReports
    clock: Clock
    stop: asyncio.Event
    readiness_changed: Callable[[], None]
    """Called when `TopicSink.ready` of any may have changed."""


class TopicSink(ConsumerRebalanceListener):  # type: ignore[misc]  # reason: aiokafka has no types
    """Runs until the stop event of its edges."""

    def __init__(self, table: SinkTable, consumer: AIOKafkaConsumer, edges: SinkEdges) -> None:
        self._table = table
        self._consumer = consumer
        self._edges = edges
        self._dead_letters = DeadLetters(table.stage, edges.send_letter, edges.clock)
        self._batch = _Batch()
        self._tallies: dict[int, _Tally] = {}
        self._joined = False
        self._database_answers = True

    @property
    def ready(self) -> bool:
        """It has its share of the partitions, and the database answered last time."""
        return self._joined and self._database_answers

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """What is not stored yet is read again by the partitions' next owner, perhaps this one."""
        self._batch = _Batch()

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        partitions = {partition.partition for partition in assigned}
        self._tallies = {number: tally for number, tally in self._tallies.items() if number in partitions}
        self._joined = True
        self._edges.readiness_changed()
        log.info("partitions_assigned", topic=self._table.topic, partitions=sorted(partitions))

    async def run(self) -> None:
        """Reads and stores until stop, then stores what it has read. Raises what is not an outage."""
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
        except OUTAGES as error:
            # Only after stop: the batch is not stored, its offsets are not committed, it is read again.
            log.warning("stopped_in_outage", topic=self._table.topic, error=str(error))

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
                # A rebalance dropped the batch meanwhile. These records come again, after those it held: to
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
        pipeline_metrics().frames.labels(stage=self._table.stage).inc(len(records))
        self._note_lag(partition, records[-1].offset + 1)

    def _note_lag(self, partition: TopicPartition, next_offset: int) -> None:
        if partition not in self._consumer.assignment():
            return  # a rebalance came in between
        highwater = self._consumer.highwater(partition)
        if highwater is not None:
            lag = pipeline_metrics().consumer_lag
            labels = (self._table.stage, partition.topic, partition.partition)
            lag.labels(*labels).set(max(0, highwater - next_offset))

    async def _decode(self, batch: _Batch, record: ConsumerRecord) -> None:
        try:
            decoded = self._table.decode(_value(record), record.offset)
        except BadInput as error:
            await self._refuse(record, error.input_reason, str(error))
            return
        if decoded.content is not None:
            batch.items.append(_Item(record, decoded))
            batch.rows += decoded.rows

    async def _refuse(self, record: ConsumerRecord, reason: str, message: str) -> None:
        source = f"{record.topic}/{record.partition}/{record.offset}"
        await self._dead_letters.send(DeadLetter(reason, message, source, _value(record)))

    async def _flush(self) -> None:
        batch, self._batch = self._batch, _Batch()
        if not batch.offsets:
            return
        await self._store(batch.items)
        self._count(batch)
        for partition, barrier in batch.barriers:
            facts = self._tallies.pop(partition, _Tally()).facts()
            await until_done(
                partial(self._edges.barriers.report, barrier, self._table.stage, facts),
                self._edges.stop,
                self._outage,
            )
        await self._commit(batch.offsets)

    async def _store(self, items: Sequence[_Item]) -> None:
        """Stores all items; one that the database refuses for what it holds becomes a dead letter."""
        if not items:
            return
        try:
            await until_done(lambda: self._write(items), self._edges.stop, self._outage)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            database_metrics().errors.labels(operation=self._operation).inc()
            if len(items) == 1:
                await self._refuse(items[0].record, "database_refused", f"PostgreSQL refuses it: {error}")
                return
            for item in items:
                await self._store([item])

    async def _write(self, items: Sequence[_Item]) -> None:
        metrics = database_metrics()
        metrics.queries.labels(operation=self._operation).inc()
        async with self._edges.pool.connection(timeout=_CONNECTION_TIMEOUT_S) as connection:
            began_s = time.perf_counter()
            await self._table.write(connection, [item.decoded.content for item in items])
            duration_s = time.perf_counter() - began_s
            metrics.insert_duration.labels(table=self._table.name).observe(duration_s)
        self._note_stored(items, duration_s)
        if not self._database_answers:
            log.info("database_answers_again", table=self._table.name)
            self._database_answers = True
            self._edges.readiness_changed()

    def _note_stored(self, items: Sequence[_Item], duration_s: float) -> None:
        log.debug("rows_stored", table=self._table.name, of=[item.decoded.name for item in items])
        spans = recorder()
        if spans:
            now_ms = self._edges.clock.now_ms()
            for item in items:
                spans.record(
                    self._table.stage,
                    item.decoded.name,
                    end_ms=now_ms,
                    duration_s=duration_s,
                    rows=item.decoded.rows,
                    table=self._table.name,
                )

    @property
    def _operation(self) -> str:
        return f"write_{self._table.name}"

    def _outage(self, error: BaseException) -> None:
        if isinstance(error, psycopg.Error):
            database_metrics().errors.labels(operation=self._operation).inc()
            self._database_answers = False
            self._edges.readiness_changed()
        log.warning("sink_waits", table=self._table.name, error=str(error))

    def _count(self, batch: _Batch) -> None:
        now_ms = self._edges.clock.now_ms()
        metrics = pipeline_metrics()
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
            # A rebalance came in between, or Kafka is away: who reads the batch again writes the same rows.
            log.warning("offsets_not_committed", topic=self._table.topic, error=repr(error))


def _value(record: ConsumerRecord) -> bytes:
    """Empty where a record has none at all (a tombstone)."""
    value: bytes = record.value or b""
    return value
