"""What the three agents share: reading records safely, forwarding barriers, and counting.

The rules of a safe Faust agent, and why (measured on faust-streaming 0.15.3):
- An exception that leaves an agent's body acknowledges the event it was working on. So bad input goes to the
  dead letters, and anything unexpected ends the process at once, inside the handler, before Faust unwinds and
  commits: the supervisor restarts it and the record is read again.
- What a record causes is sent, and confirmed by Kafka, before the body goes on to the next record, and only
  then recorded in a table. A crash between the two repeats a send; it never loses one.
- One record at a time (concurrency 1), no `take()`: a record holds many rows.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, ClassVar

import numpy as np
import structlog
from faust.types import StreamT

from app.barrier import Barrier, BarrierReports
from app.candles.batch import IntArray
from app.clock import Clock
from app.dead_letters import DeadLetter, DeadLetters
from app.errors import BadInput, RuleError
from app.exit_status import EXIT_UNEXPECTED
from app.frames import FrameInfo
from app.telemetry import pipeline_metrics
from app.tracing import recorder

Deliver = Callable[[int, bytes], Awaitable[None]]
"""Sends a record to the given partition of the stage's output topic; returns when Kafka has it."""

_LATENCIES_KEPT = 50_000
_UNREADABLE = (BadInput, RuleError, ValueError, KeyError)
"""What reading stored state of another version, or damaged, raises."""


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

    def facts(self) -> dict[str, Any]:
        """JSON-able: counts, and latency quantiles in ms (null without frames)."""
        kept = np.array(self._latencies_ms) if self._latencies_ms else np.array([np.nan])
        p50, p99 = (None if np.isnan(value) else float(value) for value in np.percentile(kept, [50, 99]))
        return {"frames": self.frames, "rows": self.rows, "p50_ms": p50, "p99_ms": p99}


class Stage(ABC):
    """One agent. Subclasses turn a frame into what follows from it; this class does the rest."""

    name: ClassVar[str]

    def __init__(
        self, deliver: Deliver, dead_letters: DeadLetters, barriers: BarrierReports, clock: Clock
    ) -> None:
        self._deliver = deliver
        self._dead_letters = dead_letters
        self._barriers = barriers
        self.clock = clock
        self.log = structlog.get_logger(self.name)
        self._tallies: dict[int, Tally] = {}
        self._owned: frozenset[int] = frozenset()
        self._frame_id = ""
        self.positions: dict[int, int] = {}
        """Partition -> offset behind the last record done with since the assignment."""

    @abstractmethod
    async def handle(self, partition: int, data: bytes) -> None:
        """Deals with one frame, to the end. Raises BadInput if the record cannot be used."""

    @abstractmethod
    def forget(self, partition: int) -> None:
        """Drops the state of a partition."""

    @abstractmethod
    def restore(self, partitions: Collection[int]) -> None:
        """Rebuilds the state of these partitions from the tables, each value by `take_back`."""

    def take_back(self, table: str, shard: int, read: Callable[[], None]) -> bool:
        """Whether `read` could use a stored value. If not, it is logged and counted and the stage does without:
        another version wrote it, or it is damaged, and to fail would mean to fail at every start."""
        try:
            read()
        except _UNREADABLE as error:
            pipeline_metrics().snapshots_unusable.labels(stage=self.name).inc()
            reason = error.input_reason if isinstance(error, BadInput) else type(error).__name__
            self.log.error("snapshot_unusable", table=table, shard=shard, reason=reason, error=str(error))
            return False
        return True

    def reassign(self, partitions: Collection[int]) -> None:
        """Called after every rebalance, when tables are recovered and before records flow: the partitions this
        worker now owns. State of partitions it kept stays; Faust recovers only tables of those it gained."""
        gained = frozenset(partitions) - self._owned
        for partition in gained | (self._owned - frozenset(partitions)):
            self.forget(partition)
        self._owned = frozenset(partitions)
        self.positions = {at: offset for at, offset in self.positions.items() if at not in gained}
        self.restore(gained)
        self.log.info("partitions_assigned", partitions=sorted(partitions), restored=sorted(gained))

    def facts(self, partition: int) -> Mapping[str, Any]:
        """What to report at a barrier, beside the tally."""
        return {}

    async def run(self, stream: StreamT[bytes]) -> None:
        """The body of the Faust agent."""
        async for event in stream.events():
            message = event.message
            # a record may have no value at all (a tombstone)
            data = event.value or b""
            try:
                await self._process(message.partition, data)
            except BadInput as error:
                source = f"{message.topic}/{message.partition}/{message.offset}"
                await self._refuse(error, source, data)
            except Exception:
                self.log.critical("stage_failed", exc_info=True, offset=message.offset)
                os._exit(EXIT_UNEXPECTED)
            self.positions[message.partition] = message.offset + 1

    async def _process(self, partition: int, data: bytes) -> None:
        barrier = Barrier.decode(data)
        if barrier is None:
            await self._handle(partition, data)
            return
        tally = self._tallies.pop(partition, Tally())
        facts = {**tally.facts(), **self.facts(partition)}
        await self._barriers.report_through_outages(barrier, self.name, facts)
        await self._deliver(partition, data)

    async def _handle(self, partition: int, data: bytes) -> None:
        """`handle`, with the frame's id in every log event of it, and a span if traces are wanted."""
        began_s = time.perf_counter()
        self._frame_id = ""
        try:
            await self.handle(partition, data)
            self.log.debug("frame_done", partition=partition)
        finally:
            structlog.contextvars.unbind_contextvars("frame_id")
        spans = recorder()
        if spans:
            duration_s, now_ms = time.perf_counter() - began_s, self.clock.now_ms()
            spans.record(self.name, self._frame_id, end_ms=now_ms, duration_s=duration_s, partition=partition)

    def follow(self, info: FrameInfo) -> None:
        """To be called by `handle` as soon as it knows which frame it is."""
        self._frame_id = info.frame_id
        structlog.contextvars.bind_contextvars(frame_id=info.frame_id)

    async def _refuse(self, error: BadInput, source: str, data: bytes) -> None:
        try:
            await self._dead_letters.send(DeadLetter(error.input_reason, str(error), source, data))
        except Exception:
            self.log.critical("dead_letter_failed", exc_info=True, source=source)
            os._exit(EXIT_UNEXPECTED)

    def count(self, partition: int, ingest_ts_ms: IntArray, rows: int) -> None:
        """Counts a frame that is done with; its latency is that of its oldest row."""
        metrics = pipeline_metrics()
        metrics.frames.labels(stage=self.name).inc()
        metrics.rows.labels(stage=self.name).inc(rows)
        if rows:
            latency_ms = self.clock.now_ms() - int(ingest_ts_ms.min())
            metrics.stage_latency.labels(stage=self.name).observe(latency_ms / 1000)
            self._tallies.setdefault(partition, Tally()).add(rows, latency_ms)

    def stamped(self, info: FrameInfo) -> FrameInfo:
        """`info` with this stage's time added."""
        return FrameInfo({**info.stage_ts_ms, self.name: self.clock.now_ms()}, info.frame_id)
