"""Housekeeping of the outbox: targets follow the users' settings, gauges, deletion of old rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import structlog
from prometheus_client import CollectorRegistry
from psycopg import AsyncConnection
from psycopg.errors import ForeignKeyViolation

from app.clock import Clock
from app.database.connection import Pool
from app.telemetry import WebhookMetrics, database_metrics, webhook_metrics
from app.times import utc
from app.webhooks.delivery.outbox import QUERIES
from app.webhooks.targets.settings_targets import follow_settings
from app.wire.faults import time_heals
from app.wire.retry import OutageLog, sleep_until

log = structlog.get_logger("webhooks")

_EVERY_S = 2.0
_ROUNDS_PER_MEASURE = 5
_ROUNDS_PER_DELETION = 300
_BATCH_ROWS = 5_000
_DAY_MS = 24 * 3_600_000


async def keep_house(
    pool: Pool,
    retention_days: int,
    clock: Clock,
    stop: asyncio.Event,
    on_depth: Callable[[Depth], None],
    registry: CollectorRegistry,
) -> None:
    """Until `stop`, follow the settings every 2 s, set the gauges and call `on_depth` every 10 s, and delete old rows
    every 10 min.

    After a failure of the database, or for a user who is deleted meanwhile, the next round tries again: sending does
    not wait for this.
    """
    metrics = webhook_metrics(registry)
    errors = database_metrics(registry).errors.labels(operation="webhooks_housekeeping")
    rounds = 0
    outage = OutageLog(log, "housekeeping_failed")
    while not stop.is_set():
        try:
            async with pool.connection() as connection:
                await follow_settings(connection, clock.now_ms())
                if rounds % _ROUNDS_PER_MEASURE == 0:
                    on_depth(await measure(connection, clock.now_ms(), metrics))
                if rounds % _ROUNDS_PER_DELETION == 0:
                    await delete_old(connection, clock.now_ms(), retention_days)
        except psycopg.Error as error:
            if not (time_heals(error) or isinstance(error, ForeignKeyViolation)):
                raise
            errors.inc()
            outage.failed(error)
        else:
            outage.over()
        rounds += 1
        await sleep_until(stop, _EVERY_S)


@dataclass(frozen=True, slots=True)
class Depth:
    """pending: messages that are due or will be. unclaimed_since_ms: since when (UTC ms) the oldest message that any
    sender may claim now has been due; None without one."""

    pending: int
    unclaimed_since_ms: int | None


async def measure(connection: AsyncConnection, now_ms: int, metrics: WebhookMetrics) -> Depth:
    """Set the gauges, and return the depth of the outbox."""
    cursor = await connection.execute(QUERIES["depth"], {"now": utc(now_ms)})
    row = await cursor.fetchone()
    assert row is not None, "a SELECT of counts has one row"
    pending, dead, oldest, unclaimed, enabled, disabled = row
    metrics.outbox.labels(state="pending").set(pending)
    metrics.outbox.labels(state="dead").set(dead)
    metrics.oldest_due.set(0 if oldest is None else max(0.0, now_ms / 1000 - oldest.timestamp()))
    metrics.targets.labels(state="enabled").set(enabled)
    metrics.targets.labels(state="disabled").set(disabled)
    return Depth(pending, None if unclaimed is None else round(unclaimed.timestamp() * 1000))


async def delete_old(
    connection: AsyncConnection, now_ms: int, retention_days: int, batch_rows: int = _BATCH_ROWS
) -> int:
    """Delete deliveries older than the retention that were delivered or given up, and alerts without a delivery.

    Messages to a target that is off are given up after the same time; others end by their schedule. Needs an
    autocommit connection. Returns how many deliveries it deleted.
    """
    given = {"now": utc(now_ms), "before": utc(now_ms - retention_days * _DAY_MS), "rows": batch_rows}
    await connection.execute(QUERIES["give_up_held"], given)
    deleted = 0
    for statement in ("delete_settled", "delete_alerts"):
        while True:
            cursor = await connection.execute(QUERIES[statement], given)
            deleted += cursor.rowcount if statement == "delete_settled" else 0
            if cursor.rowcount < batch_rows:
                break
    return deleted
