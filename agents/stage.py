"""Shared by the three agents: reading records safely, forwarding barriers, and counting.

The rules of a safe Faust agent, and why (measured on faust-streaming 0.15.3):
- An exception that leaves an agent's body acknowledges the event it was working on. So bad input goes to the dead
  letters, and anything unexpected ends the process at once, inside the handler, before Faust unwinds and commits: the
  supervisor restarts it and the record is read again; a record that has ended the process three times goes to the
  dead letters too (`app/process/quarantine.py`).
- The results of a record are sent, and confirmed by Kafka, before the body continues to the next record, and only
  then recorded in a table. A crash between the two repeats a send; it never loses one.
- An offset is committed once Kafka has the record's minutes in the table's changelog.
- One record at a time (concurrency 1), no `take()`: a record holds many rows.
"""

from __future__ import annotations

import asyncio
import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, ClassVar, NoReturn
from zlib import crc32

import structlog
from faust.types import EventT, StreamT

from app.candles.batch import IntArray
from app.errors import BadInput
from app.process.attempt_records import Record
from app.process.exit_status import EXIT_TEMPORARY, EXIT_UNEXPECTED
from app.process.faust_worker.stage_edges import StageEdges
from app.process.quarantine import QUARANTINED, is_outage
from app.telemetry import pipeline_metrics
from app.telemetry.tracing import recorder
from app.wire.barrier import Barrier, StageFacts, latency_facts
from app.wire.dead_letters import DeadLetter
from app.wire.frames import FrameInfo
from tables.minutes import MinuteTable

_LATENCIES_KEPT = 50_000


class Tally:
    """Frames, rows and latencies of one partition since the last barrier."""

    def __init__(self) -> None:
        self.frames = 0
        self.rows = 0
        self._latencies_ms: deque[int] = deque(maxlen=_LATENCIES_KEPT)

    def add(self, rows: int, latency_ms: int) -> None:
        self.frames += 1
        self.rows += rows
        self._latencies_ms.append(latency_ms)

    def facts(self) -> StageFacts:
        """Return counts, and quantiles of the latency."""
        return {"frames": self.frames, "rows": self.rows, **latency_facts(self._latencies_ms)}


class Stage(ABC):
    """One agent. Subclasses turn a frame into its results; this class does the rest."""

    name: ClassVar[str]

    def __init__(self, minutes: MinuteTable, edges: StageEdges) -> None:
        self._minutes = minutes
        self._deliver = edges.deliver
        self._dead_letters = edges.dead_letters
        self._barriers = edges.barriers
        self._attempts = edges.attempts
        self.clock = edges.clock
        self.pipeline = pipeline_metrics(edges.registry)
        self._frames_done = self.pipeline.frames.labels(self.name)
        self._rows_done = self.pipeline.rows.labels(self.name)
        self._latency = self.pipeline.stage_latency.labels(self.name)
        self.log = structlog.get_logger(self.name)
        self._tallies: dict[int, Tally] = {}
        self._owned: frozenset[int] = frozenset()
        self._kept: set[int] = set()
        """Partitions that stayed at the last rebalance and have had no record since."""
        self._frame = FrameInfo()
        self.positions: dict[int, int] = {}
        """Partition -> offset after the last record that was finished since the assignment."""

    @abstractmethod
    async def handle(self, partition: int, data: bytes) -> None:
        """Process one frame completely. Raises BadInput if the record cannot be used."""

    @abstractmethod
    def forget(self, partition: int) -> None:
        """Drop the state of a partition."""

    @abstractmethod
    def restore(self, partitions: Collection[int]) -> None:
        """Rebuild the state of these partitions from the tables, each value by `take_back`."""

    async def settle(self) -> None:
        """Wait, at a barrier, for the background work of the records before it."""
        return

    @property
    def left_behind(self) -> asyncio.Task[None] | None:
        """The background work of the records so far; their offsets are committed once it is done."""
        return None

    def take_back(self, table: str, shard: int, packed: bytes, use: Callable[[bytes], object]) -> bool:
        """Return whether `use` could read a stored value. A value that it cannot read, because it is damaged or
        another version wrote it, is logged and counted, and the stage continues without it: an error would come again
        at every start. A value that ended the process three times is not read a fourth time."""
        value = Record(f"{self.name} table {table}/{shard}", crc32(packed))
        verdict = self._attempts.verdict(value)
        if verdict:
            self._cannot_use(table, shard, QUARANTINED, verdict.said)
            return False
        try:
            with self._attempts.watch(value):
                use(packed)
        except Exception as error:  # damaged bytes raise anything
            reason = error.reason if isinstance(error, BadInput) else type(error).__name__
            self._cannot_use(table, shard, reason, str(error))
            return False
        self._attempts.done(value)
        return True

    def _cannot_use(self, table: str, shard: int, reason: str, error: str) -> None:
        self.pipeline.snapshots_unusable.labels(stage=self.name).inc()
        self.log.error("snapshot_unusable", table=table, shard=shard, reason=reason, error=error)

    def keep_only(self, partitions: Collection[int]) -> None:
        """Handle the beginning of a rebalance: other workers own all but these partitions from now on. A partition that
        comes back later, even before this rebalance has ended, is restored from the tables again."""
        lost = self._owned - frozenset(partitions)
        for partition in lost:
            self.forget(partition)
            self.positions.pop(partition, None)
        self._owned -= lost

    def reassign(self, partitions: Collection[int]) -> None:
        """Handle the end of a rebalance, called when the tables of these partitions are recovered and before records
        flow: this worker owns them now. State of partitions that it owned all the time stays."""
        self.keep_only(partitions)
        gained = frozenset(partitions) - self._owned
        self._kept = set(self._owned)
        self._attempts.open()
        self._restore(gained)
        self._owned |= gained
        self.log.info("partitions_assigned", partitions=sorted(partitions), restored=sorted(gained))

    def _restore(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            self.forget(partition)
            self.positions.pop(partition, None)
        self.restore(partitions)

    def _check_state(self, partition: int, offset: int) -> None:
        """Make sure, before a record is processed, that the state is that of all records before it. A worker that
        Kafka did not hear from in time leaves the group without noticing; another worker processes its partitions
        until it is back."""
        if partition not in self._owned:
            self.log.critical("partition_not_owned", partition=partition, offset=offset)
            os._exit(EXIT_TEMPORARY)
        if partition not in self._kept:
            return
        self._kept.discard(partition)
        known = self.positions.get(partition)
        if known is None or offset > known:
            self.log.info("state_restored", partition=partition, position=known, offset=offset)
            self._restore((partition,))

    def facts(self, partition: int) -> StageFacts:
        """Return the facts to report at a barrier, besides the tally."""
        return {}

    async def run(self, stream: StreamT[bytes]) -> None:
        """Run the body of the Faust agent."""
        self._attempts.open()
        async for event in stream.events():
            # a record may have no value (a tombstone)
            stored = await self._work_on(event.message, event.value or b"")
            if stored is not None:
                event.message.incref()
                stored.add_done_callback(partial(self._acknowledge_stored, event))
            if (work := self.left_behind) is not None:
                event.message.incref()
                work.add_done_callback(partial(_acknowledge, event))

    async def _work_on(self, message: Any, data: bytes) -> asyncio.Future[Any] | None:
        """Process the record or send it to the dead letters; end the process if neither is possible. Return when its
        minutes are on their way to Kafka: the future is done once they are stored, None if it has written no minute."""
        partition, offset = message.partition, message.offset
        self._check_state(partition, offset)
        record = _record_of(message)
        source = f"{record.source}/{offset}"
        verdict = self._attempts.verdict(record)
        try:
            if verdict:
                raise verdict.bad_input()
            await self._attempts.watched(self._process(partition, data), record)
            await self._refuse_rows(source, data)
        except BadInput as error:
            await self._refuse(DeadLetter(error.reason, str(error), source, data))
        except Exception as error:
            self._end(error, record)
        try:
            stored = await self._minutes.send()
        except Exception as error:
            self._end(error, record)
        if verdict:
            self._attempts.set_aside(record, verdict)
        if stored is None:
            self._attempts.done(record)
        self.positions[partition] = offset + 1
        return stored

    def _acknowledge_stored(self, event: EventT[bytes], stored: asyncio.Future[Any]) -> None:
        """Let the offset be committed, now that Kafka has the record's minutes. Without them the state after a restart
        would lack them, so the process ends if Kafka does not take them."""
        if stored.cancelled():
            return
        record = _record_of(event.message)
        if (error := stored.exception()) is not None:
            self._end(error, record)
        self._attempts.done(record)
        event.ack()

    def _end(self, error: BaseException, record: Record) -> NoReturn:
        """End the process at once, before Faust unwinds and commits. It counts against the record, unless it is a
        server's fault."""
        outage = is_outage(error)
        if not outage:
            self._attempts.failed(error, record)
        self.log.critical("stage_failed", exc_info=error, offset=record.offset)
        os._exit(EXIT_TEMPORARY if outage else EXIT_UNEXPECTED)

    async def _process(self, partition: int, data: bytes) -> None:
        self._frame = FrameInfo()
        barrier = Barrier.decode(data)
        if barrier is None:
            await self._handle(partition, data)
            return
        await self.settle()
        tally = self._tallies.pop(partition, Tally())
        facts: StageFacts = {**tally.facts(), **self.facts(partition)}
        await self._barriers.report_through_outages(barrier, self.name, facts)
        await self._deliver(partition, data)

    async def _handle(self, partition: int, data: bytes) -> None:
        """Call `handle` with the frame's id in all its log events, and record a span if tracing is on."""
        began_s = time.perf_counter()
        try:
            await self.handle(partition, data)
            self.log.debug("frame_done", partition=partition)
        finally:
            structlog.contextvars.unbind_contextvars("frame_id")
        spans = recorder()
        if spans:
            duration_s, now_ms = time.perf_counter() - began_s, self.clock.now_ms()
            spans.record(
                self.name, self._frame.frame_id, end_ms=now_ms, duration_s=duration_s, partition=partition
            )

    def follow(self, info: FrameInfo) -> None:
        """Note the frame; `handle` calls it as soon as it knows the frame."""
        self._frame = info
        structlog.contextvars.bind_contextvars(frame_id=info.frame_id)

    async def _refuse_rows(self, source: str, data: bytes) -> None:
        """Send one dead letter for all rows that were left out of a frame."""
        if refused := self._frame.refused:
            reason = max(refused, key=refused.__getitem__)
            await self._refuse(DeadLetter(reason, self._frame.refusal, source, data, refused))

    async def _refuse(self, letter: DeadLetter) -> None:
        try:
            await self._dead_letters.send(letter)
        except Exception:
            self.log.critical("dead_letter_failed", exc_info=True, source=letter.source)
            os._exit(EXIT_UNEXPECTED)

    def count(self, partition: int, ingest_ts_ms: IntArray, rows: int) -> None:
        """Count a finished frame; its latency is that of its oldest row."""
        self._frames_done.inc()
        self._rows_done.inc(rows)
        if rows:
            latency_ms = self.clock.now_ms() - int(ingest_ts_ms.min())
            self._latency.observe(latency_ms / 1000)
            self._tallies.setdefault(partition, Tally()).add(rows, latency_ms)

    def stamped(self, info: FrameInfo) -> FrameInfo:
        """Return `info` with this stage's time added."""
        return FrameInfo({**info.stage_ts_ms, self.name: self.clock.now_ms()}, info.frame_id)


def _record_of(message: Any) -> Record:
    """Identify a Faust message."""
    source = f"{message.topic}/{message.partition}"
    return Record(source, message.offset, round((message.timestamp or 0) * 1000))


def _acknowledge(event: EventT[bytes], work: asyncio.Task[None]) -> None:
    """Let the offset be committed."""
    if not work.cancelled() and work.exception() is None:
        event.ack()
