"""Deletes candles and metrics that are older than the retention, where TimescaleDB does not do it.

Age is that of the row's time against the clock given, not when it was written: a replay of old data keeps it
only with retention_hours = 0.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import psycopg
import structlog
from psycopg import AsyncConnection

from app.clock import Clock
from app.database.connection import Pool
from app.database.named_queries import named_queries
from app.telemetry import database_metrics

log = structlog.get_logger("database")

# Small enough to hold its locks for some ten ms only, and to make room for the sinks in between.
_BATCH_ROWS = 10_000
_EVERY_S = 60.0
_HOUR_MS = 3_600_000
_QUERIES = named_queries("retention.sql")
_DELETIONS = {"candles_1m": _QUERIES["delete_candles"], "metrics_calculated": _QUERIES["delete_metrics"]}


async def delete_older(connection: AsyncConnection, before_ms: int, batch_rows: int = _BATCH_ROWS) -> int:
    """Deletes candles and metrics with a time before `before_ms` (UTC), at most `batch_rows` a transaction.

    Returns the number of rows deleted. Needs an autocommit connection. Raises psycopg.Error; what was deleted
    until then stays deleted.
    """
    before = datetime.fromtimestamp(before_ms / 1000, UTC)
    deleted = 0
    for statement in _DELETIONS.values():
        while True:
            cursor = await connection.execute(statement, {"before": before, "rows": batch_rows})
            deleted += cursor.rowcount
            if cursor.rowcount < batch_rows:
                break
    return deleted


async def run_retention(pool: Pool, retention_hours: int, clock: Clock, stop: asyncio.Event) -> None:
    """Calls `delete_older` now and every minute until `stop`; with 0 hours it keeps everything.

    A database that fails is left alone until the next minute: nothing waits for a deletion.
    """
    if retention_hours == 0:
        return
    metrics = database_metrics()
    while not stop.is_set():
        metrics.queries.labels(operation="delete_older").inc()
        try:
            async with pool.connection() as connection:
                deleted = await delete_older(connection, clock.now_ms() - retention_hours * _HOUR_MS)
            if deleted:
                log.info("expired_rows_deleted", rows=deleted)
        except psycopg.OperationalError as error:
            metrics.errors.labels(operation="delete_older").inc()
            log.warning("retention_failed", error=str(error))
        try:
            await asyncio.wait_for(stop.wait(), _EVERY_S)
        except TimeoutError:
            continue
