"""Which minutes the database has, as runs: what a feed need not fetch again after a start."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import psycopg
import structlog
from psycopg import AsyncConnection

from app.candles.known_minutes import Gap
from app.database.connection import connection_url
from app.database.named_queries import named_queries
from app.settings import Settings
from app.telemetry import database_metrics

_QUERIES = named_queries("reads.sql")
_TIMEOUT_MS = 60_000
log = structlog.get_logger("database")


async def stored_runs(settings: Settings, symbols: Sequence[str], since_ms: int) -> list[Gap]:
    """Runs of consecutive stored minutes from `since_ms` (UTC) on, by symbol, oldest first; each from the open time
    of its first minute to that of its last. Empty, with a word in the log, if the database cannot be asked: the
    caller then fetches what may be there already, which is harmless."""
    database_metrics().queries.labels(operation="minute_runs").inc()
    parameters = {"symbols": list(symbols), "since": datetime.fromtimestamp(since_ms / 1000, UTC)}
    try:
        async with await AsyncConnection.connect(
            connection_url(settings, _TIMEOUT_MS), autocommit=True
        ) as connection:
            cursor = await connection.execute(_QUERIES["minute_runs"], parameters)
            rows = await cursor.fetchall()
    except psycopg.Error as error:
        database_metrics().errors.labels(operation="minute_runs").inc()
        log.warning("stored_minutes_unknown", error=str(error), policy="all of them are fetched")
        return []
    return [Gap(symbol, _ms(first), _ms(last)) for symbol, first, last in rows]


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
