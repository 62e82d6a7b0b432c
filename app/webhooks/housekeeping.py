"""What the outbox needs beside sending: targets that follow the users' settings, gauges, and an end of what is old."""

from __future__ import annotations

import asyncio

import structlog
from psycopg import AsyncConnection
from psycopg.errors import ForeignKeyViolation

from app.clock import Clock
from app.database.connection import Pool
from app.database.outages import OUTAGES
from app.settings import Settings
from app.telemetry import database_metrics, webhook_metrics
from app.webhooks.outbox import QUERIES, moment
from app.webhooks.targets import AllowedHosts
from app.webhooks.user_targets import follow_settings

log = structlog.get_logger("webhooks")

_EVERY_S = 2.0
_ROUNDS_PER_MEASURE = 5
_ROUNDS_PER_DELETION = 300
_BATCH_ROWS = 5_000
_DAY_MS = 24 * 3_600_000


async def keep_house(pool: Pool, settings: Settings, clock: Clock, stop: asyncio.Event) -> None:
    """Every 2 s the settings, every 10 s the gauges, every 10 min the deletions, until `stop`.

    A database that fails is left alone until the next round, and so is a user who is deleted meanwhile: sending does
    not wait for this.
    """
    allowed = AllowedHosts.of(settings)
    rounds = 0
    while not stop.is_set():
        try:
            async with pool.connection() as connection:
                await follow_settings(connection, allowed, clock.now_ms())
                if rounds % _ROUNDS_PER_MEASURE == 0:
                    await measure(connection, clock.now_ms())
                if rounds % _ROUNDS_PER_DELETION == 0:
                    await delete_old(connection, clock.now_ms(), settings.webhook_retention_days)
        except (*OUTAGES, ForeignKeyViolation) as error:
            database_metrics().errors.labels(operation="webhooks_housekeeping").inc()
            log.warning("housekeeping_failed", error=str(error))
        rounds += 1
        try:
            await asyncio.wait_for(stop.wait(), _EVERY_S)
        except TimeoutError:
            continue


async def measure(connection: AsyncConnection, now_ms: int) -> None:
    cursor = await connection.execute(QUERIES["depth"], {"now": moment(now_ms)})
    row = await cursor.fetchone()
    if row is None:
        return
    pending, dead, oldest, enabled, disabled = row
    metrics = webhook_metrics()
    metrics.outbox.labels(state="pending").set(pending)
    metrics.outbox.labels(state="dead").set(dead)
    metrics.oldest_due.set(0 if oldest is None else max(0.0, now_ms / 1000 - oldest.timestamp()))
    metrics.targets.labels(state="enabled").set(enabled)
    metrics.targets.labels(state="disabled").set(disabled)


async def delete_old(
    connection: AsyncConnection, now_ms: int, retention_days: int, batch_rows: int = _BATCH_ROWS
) -> int:
    """Deletes what was delivered or given up before the retention, and the alerts that nothing refers to any more.

    What waits for a target that is off is given up after as long; other messages end by their schedule. Needs an
    autocommit connection. Returns how many deliveries it deleted.
    """
    given = {"now": moment(now_ms), "before": moment(now_ms - retention_days * _DAY_MS), "rows": batch_rows}
    await connection.execute(QUERIES["give_up_held"], given)
    deleted = 0
    for statement in ("delete_settled", "delete_alerts"):
        while True:
            cursor = await connection.execute(QUERIES[statement], given)
            deleted += cursor.rowcount if statement == "delete_settled" else 0
            if cursor.rowcount < batch_rows:
                break
    return deleted
