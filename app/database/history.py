"""The minutes a restarted calculator lacks, from the database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import psycopg
import structlog
from psycopg import AsyncConnection

from app.candles.batch import CandleBatch
from app.database.connection import connection_url
from app.database.queries import load_shard_minutes
from app.settings import Settings
from app.telemetry import database_metrics

log = structlog.get_logger("database")

History = Callable[[int, int, int], Awaitable[CandleBatch | None]]


def database_history(settings: Settings) -> History:
    """A function that gives the closed candles of a shard with since_ms <= open time < until_ms, UTC.

    It gives None if the database cannot be asked: the stream goes on without it then, with windows null until
    they are whole, and the failure is logged and counted. It is asked once per shard and start, so it opens a
    connection each time and keeps none.
    """
    url = connection_url(settings)

    async def history(shard: int, since_ms: int, until_ms: int) -> CandleBatch | None:
        metrics = database_metrics()
        metrics.queries.labels(operation="load_minutes").inc()
        try:
            async with await AsyncConnection.connect(url, autocommit=True) as connection:
                found = await load_shard_minutes(connection, shard, settings.partitions, since_ms, until_ms)
        except psycopg.Error as error:
            metrics.errors.labels(operation="load_minutes").inc()
            log.warning("history_unavailable", shard=shard, error=str(error))
            return None
        return found

    return history
