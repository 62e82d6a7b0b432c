"""Alert history from SQL, for as long as the process lives: the pool comes and goes with the database."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psycopg
import structlog
from psycopg import AsyncConnection

from app.database.connection import Pool, open_pool
from app.database.queries import Alert, AlertFilter, AlertPage, alerts_page, alerts_since, latest_seq
from app.errors import ServerUnreachable
from app.settings import Settings
from app.sidecar.uncancelled import to_its_end
from app.telemetry import DatabaseMetrics

_POOL_SIZE = 8
_QUERY_TIMEOUT_MS = 5_000
_CONNECTION_WAIT_S = 2.0
_OPEN_TIMEOUT_S = 3.0
_LONGEST_PAUSE_S = 5.0

log = structlog.get_logger("sidecar.history")


class HistoryUnavailable(ServerUnreachable):
    """The database did not answer a query."""


class AlertHistory:
    """Every method raises HistoryUnavailable while the database cannot answer."""

    def __init__(self, settings: Settings, metrics: DatabaseMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._pool: Pool | None = None

    async def run(self) -> None:
        """Opens the pool, trying until it can; closes it when cancelled. The pool reconnects by itself."""
        pause_s = 0.2
        while self._pool is None:
            try:
                self._pool = await to_its_end(
                    open_pool(
                        self._settings,
                        max_size=_POOL_SIZE,
                        statement_timeout_ms=_QUERY_TIMEOUT_MS,
                        open_timeout_s=_OPEN_TIMEOUT_S,
                    ),
                    undo=lambda pool: pool.close(),
                )
            except ServerUnreachable as error:
                log.warning("no_database", fault=str(error), retry_in_s=round(pause_s, 2))
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # spreads reconnections
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
        try:
            await asyncio.Event().wait()
        finally:
            await self._pool.close()

    async def page(self, wanted: AlertFilter, limit: int, cursor: str | None) -> AlertPage:
        """Newest first. Raises BadInput for a cursor that no page gave."""
        async with self._connection("alerts_page") as connection:
            return await alerts_page(connection, wanted, limit, cursor)

    async def since(self, seq: int, limit: int) -> Sequence[Alert]:
        """The alerts after `seq`, in order of seq."""
        async with self._connection("alerts_since") as connection:
            return await alerts_since(connection, seq, limit)

    async def newest_seq(self) -> int | None:
        async with self._connection("latest_seq") as connection:
            return await latest_seq(connection)

    async def ping(self) -> None:
        async with self._connection("ping") as connection:
            await connection.execute("SELECT 1")

    @asynccontextmanager
    async def _connection(self, operation: str) -> AsyncIterator[AsyncConnection]:
        if self._pool is None:
            raise HistoryUnavailable("there is no connection to the database yet")
        self._metrics.queries.labels(operation).inc()
        try:
            async with self._pool.connection(timeout=_CONNECTION_WAIT_S) as connection:
                self._note_pool(self._pool)
                yield connection
        except psycopg.Error as error:
            self._metrics.errors.labels(operation).inc()
            log.warning("query_failed", operation=operation, fault=repr(error))
            raise HistoryUnavailable(f"{operation} failed: {error}") from error

    def _note_pool(self, pool: Pool) -> None:
        stats = pool.get_stats()
        connections = stats.get("pool_size", 0)
        self._metrics.pool_size.labels("open").set(connections)
        self._metrics.pool_size.labels("in_use").set(connections - stats.get("pool_available", 0))
