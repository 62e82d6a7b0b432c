"""Deletes minutes, metrics and longer bars when their retention ends, and watches that this and the database's jobs
work.

The age of a row is measured from its time, by the given clock, not from when it was written: a replay of old data keeps
it only with retention_hours = 0. In plain tables rows are deleted; hypertables of TimescaleDB lose whole chunks, so a
row lives up to a chunk's length longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import psycopg
import structlog
from psycopg import AsyncConnection, sql

from app.clock import Clock
from app.database.candles.bar_tables import BAR_TABLES
from app.database.connection import Pool
from app.database.named_queries import named_queries
from app.telemetry import DatabaseMetrics, RetentionMetrics
from app.times import utc, utc_ms

log = structlog.get_logger("database")

# Small enough to hold its locks for some ten ms only, and to make room for the sinks in between.
_BATCH_ROWS: Final = 10_000
_EVERY_S: Final = 60.0
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_TABLES: Final = ("candles_1m", "metrics_calculated")
_BARS: Final = tuple(table.name for table in BAR_TABLES)
_QUERIES = named_queries("retention.sql")


@dataclass(frozen=True, slots=True)
class Kept:
    """How long the database keeps minutes and metrics, and longer bars; 0 keeps everything."""

    hours: int
    bars_days: int

    def before_ms(self, now_ms: int) -> tuple[int | None, int | None]:
        """Return what expires: minutes and metrics before the first time (UTC ms), bars before the second."""
        return (
            now_ms - self.hours * _HOUR_MS if self.hours else None,
            now_ms - self.bars_days * _DAY_MS if self.bars_days else None,
        )


async def delete_older(connection: AsyncConnection, before_ms: int, batch_rows: int = _BATCH_ROWS) -> int:
    """Delete candles and metrics with a time before `before_ms` (UTC): in plain tables at most `batch_rows` rows per
    transaction, in hypertables the chunks that end before it.

    Returns the number of rows or chunks deleted. Needs an autocommit connection. Raises psycopg.Error; rows
    deleted before it stay deleted.
    """
    before = utc(before_ms)
    deleted = await _delete(connection, _TABLES, "drop_chunks", before, batch_rows)
    if deleted is None:
        return 0
    await connection.execute(_QUERIES["forget_symbols"], {"before": before})
    return deleted


async def delete_older_bars(
    connection: AsyncConnection, before_ms: int, batch_rows: int = _BATCH_ROWS
) -> int:
    """Delete bars of 5m and longer with a time before `before_ms` (UTC); otherwise like `delete_older`."""
    return await _delete(connection, _BARS, "drop_bars", utc(before_ms), batch_rows) or 0


async def _delete(
    connection: AsyncConnection, tables: Sequence[str], drop: str, before: datetime, batch_rows: int
) -> int | None:
    """Return the number of rows or chunks deleted; None if this role may not delete."""
    may_drop = await _drops_chunks(connection)
    if may_drop is None:
        return await _delete_rows(connection, tables, before, batch_rows)
    if may_drop:
        row = await (await connection.execute(_QUERIES[drop], {"before": before})).fetchone()
        return row[0] if row else 0
    log.warning("retention_not_allowed", advice="grant EXECUTE on drop_expired_chunks: deploy/DATABASE.md")
    return None


async def _drops_chunks(connection: AsyncConnection) -> bool | None:
    """Return None for plain tables, else whether this role may drop chunks."""
    row = await (await connection.execute(_QUERIES["drops_chunks"])).fetchone()
    return row[0] if row else None


async def _delete_rows(
    connection: AsyncConnection, tables: Sequence[str], before: datetime, batch_rows: int
) -> int:
    deleted = 0
    for table in tables:
        statement = sql.SQL(_QUERIES["delete_rows"]).format(table=sql.Identifier(table))
        while True:
            cursor = await connection.execute(statement, {"before": before, "rows": batch_rows})
            deleted += cursor.rowcount
            if cursor.rowcount < batch_rows:
                break
    return deleted


async def watch_storage(
    connection: AsyncConnection, metrics: RetentionMetrics, kept: Kept, now_ms: int
) -> None:
    """Show how long expired data has been overdue, and how many jobs of TimescaleDB fail. Raises psycopg.Error."""
    has_chunks = await _drops_chunks(connection) is not None
    for tables, before_ms in zip((_TABLES, _BARS), kept.before_ms(now_ms), strict=True):
        if before_ms is None:
            continue
        for table in tables:
            overdue_ms = await _overdue_ms(connection, table, before_ms, has_chunks)
            metrics.overdue_s.labels(table=table).set(overdue_ms / 1000)
    if has_chunks:
        row = await (await connection.execute(_QUERIES["failing_jobs"], {"now": utc(now_ms)})).fetchone()
        metrics.failing_jobs.set(row[0] if row else 0)


async def _overdue_ms(connection: AsyncConnection, table: str, before_ms: int, has_chunks: bool) -> int:
    query = _QUERIES["oldest_expired_chunk" if has_chunks else "oldest_expired_row"]
    statement = sql.SQL(query).format(table=sql.Identifier(table), table_text=sql.Literal(table))
    row = await (await connection.execute(statement, {"before": utc(before_ms)})).fetchone()
    return before_ms - utc_ms(row[0]) if row and row[0] else 0


async def run_retention(
    pool: Pool,
    kept: Kept,
    clock: Clock,
    stop: asyncio.Event,
    metrics: DatabaseMetrics,
    storage: RetentionMetrics,
) -> None:
    """Delete what has expired, and call `watch_storage`, now and every minute until `stop`.

    On a database error it waits until the next minute: no other work depends on a deletion.
    """
    while not stop.is_set():
        now_ms = clock.now_ms()
        for delete, before_ms in zip((delete_older, delete_older_bars), kept.before_ms(now_ms), strict=True):
            if before_ms is not None:
                action = partial(_deleted, delete=delete, before_ms=before_ms)
                await _tried(pool, delete.__name__, action, metrics)
        look = partial(watch_storage, metrics=storage, kept=kept, now_ms=now_ms)
        await _tried(pool, "watch_storage", look, metrics)
        try:
            await asyncio.wait_for(stop.wait(), _EVERY_S)
        except TimeoutError:
            continue


async def _deleted(
    connection: AsyncConnection, delete: Callable[[AsyncConnection, int], Awaitable[int]], before_ms: int
) -> None:
    deleted = await delete(connection, before_ms)
    if deleted:
        log.info("expired_rows_deleted", rows=deleted)


async def _tried(
    pool: Pool,
    operation: str,
    action: Callable[[AsyncConnection], Awaitable[None]],
    metrics: DatabaseMetrics,
) -> None:
    metrics.asked(operation)
    try:
        async with pool.connection() as connection:
            await action(connection)
    except psycopg.OperationalError as error:
        metrics.errors.labels(operation=operation).inc()
        log.warning("retention_failed", operation=operation, error=str(error))
