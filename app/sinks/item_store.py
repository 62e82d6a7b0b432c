"""Stores the records of a batch: waits through outages, and isolates a record that the database rejects.

A batch that fails is stored again record by record. A record whose content the database rejects goes to the dead
letters; a record at which the process ended before is stored alone.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import psycopg
import structlog
from aiokafka import ConsumerRecord

from app.process.attempt_records import Record
from app.process.quarantine import Attempts, is_outage
from app.sinks.edges import SinkEdges
from app.sinks.tables import Decoded, SinkTable
from app.telemetry import database_metrics
from app.telemetry.tracing import recorder
from app.wire.faults import is_of_the_data
from app.wire.retry import OutageLog, retried

_CONNECTION_TIMEOUT_S = 5.0

log = structlog.get_logger("sinks")


@dataclass(slots=True)
class Item:
    """A record with rows to store."""

    record: ConsumerRecord
    decoded: Decoded


class ItemStore:
    """Stores items in one table."""

    def __init__(
        self,
        table: SinkTable,
        edges: SinkEdges,
        attempts: Attempts,
        refuse: Callable[[ConsumerRecord, str, str], Awaitable[None]],
    ) -> None:
        """refuse: sends a record to the dead letters, with a reason and a message."""
        self._table = table
        self._edges = edges
        self._attempts = attempts
        self._refuse = refuse
        self._metrics = database_metrics(edges.registry)
        self._operation = f"write_{table.name}"
        self._outage = OutageLog(log, "sink_waits", table=table.name)
        self.database_answers = True
        """Whether the database answered last time."""

    async def store(self, items: Sequence[Item]) -> None:
        """Store all items; an item whose content the database rejects becomes a dead letter."""
        if not items:
            return
        marks = [attempt_record(item.record) for item in items]
        if len(items) > 1 and any(map(self._attempts.is_known, marks)):
            await self._store_each(items)
            return
        try:
            await retried(
                lambda: self._attempts.watched(self._write(items), *marks),
                self._outage,
                stop=self._edges.stop,
                on_failure=self._note_failure,
            )
        except Exception as error:
            if is_outage(error):
                raise
            refused = is_of_the_data(error)
            if refused:
                self._metrics.errors.labels(operation=self._operation).inc()
            if len(items) > 1:
                await self._store_each(items)
            elif refused:
                await self._refuse(items[0].record, "database_refused", f"PostgreSQL rejects it: {error}")
            else:
                self._attempts.failed(error, *marks)
                raise

    async def _store_each(self, items: Sequence[Item]) -> None:
        for item in items:
            await self.store([item])

    async def _write(self, items: Sequence[Item]) -> None:
        metrics = self._metrics
        metrics.asked(self._operation)
        async with self._edges.pool.connection(timeout=_CONNECTION_TIMEOUT_S) as connection:
            began_s = time.perf_counter()
            await self._table.write(connection, [item.decoded.content for item in items])
            duration_s = time.perf_counter() - began_s
            metrics.insert_duration.labels(table=self._table.name).observe(duration_s)
        self._note_stored(items, duration_s)
        if not self.database_answers:
            self.database_answers = True
            self._edges.readiness_changed()

    def _note_stored(self, items: Sequence[Item], duration_s: float) -> None:
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

    def _note_failure(self, error: BaseException) -> None:
        if isinstance(error, psycopg.Error):
            self._metrics.errors.labels(operation=self._operation).inc()
            self.database_answers = False
            self._edges.readiness_changed()


def attempt_record(record: ConsumerRecord) -> Record:
    """Identify a record in the notes of attempts."""
    return Record(f"{record.topic}/{record.partition}", record.offset, record.timestamp or 0)
