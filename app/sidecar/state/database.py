"""The sidecar's connections to the database, for as long as the process lives: they come and go with the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import psycopg
import structlog
from psycopg import AsyncConnection

from app.database.connection import Pool, open_pool, show_pool, try_write
from app.database.timescale import TimescaleMode, timescale_mode
from app.errors import ServerUnreachable
from app.process.tasks import to_its_end
from app.settings.access import PostgresAccess
from app.sidecar.state.limits import SidecarLimits
from app.telemetry import DatabaseMetrics
from app.wire.retry import OutageLog, retried

_OPEN_TIMEOUT_S: Final = 3.0
_LOOK_EVERY_S: Final = 10.0

log = structlog.get_logger("sidecar.database")


class HistoryUnavailable(ServerUnreachable):
    """The database did not answer a query."""


class Database:
    """One pool for all queries of the sidecar, with limits on connections, waiting and query time."""

    def __init__(self, postgres: PostgresAccess, limits: SidecarLimits, metrics: DatabaseMetrics) -> None:
        self.metrics = metrics
        self._postgres = postgres
        self._limits = limits
        self._pool: Pool | None = None
        self._failing = OutageLog(log, "query_failed")
        self.timescale: TimescaleMode = "unknown"
        """As last seen."""

    async def run(self) -> None:
        """Open the pool, trying until it can; close it when cancelled. The pool reconnects by itself."""
        self._pool = await retried(self._open, OutageLog(log, "no_database"))
        show_pool(self._pool, self.metrics)
        try:
            while True:
                await self._look()
                await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            await self._pool.close()

    async def _look(self) -> None:
        try:
            async with self.connection("timescale_mode") as connection:
                self.timescale = await timescale_mode(connection)
        except HistoryUnavailable:
            self.timescale = "unknown"

    async def _open(self) -> Pool:
        return await to_its_end(
            open_pool(
                self._postgres,
                max_size=self._limits.database_connections,
                statement_timeout_ms=round(self._limits.query_timeout_s * 1000),
                open_timeout_s=_OPEN_TIMEOUT_S,
                wait_s=self._limits.connection_wait_s,
            ),
            undo=lambda pool: pool.close(),
        )

    async def ping(self) -> None:
        async with self.connection("ping") as connection:
            await connection.execute("SELECT 1")

    async def try_write(self) -> None:
        """Try a write. Raises HistoryUnavailable if the database rejects it."""
        async with self.connection("try_write") as connection:
            await try_write(connection, "sidecar")

    @asynccontextmanager
    async def connection(self, operation: str) -> AsyncIterator[AsyncConnection]:
        """Yield a connection for `operation`, the label it is counted under. Raises HistoryUnavailable, also if
        the database does not answer within it."""
        async with self.pool(operation) as pool, pool.connection() as connection:
            yield connection

    @asynccontextmanager
    async def pool(self, operation: str) -> AsyncIterator[Pool]:
        """Yield the pool itself, with the counts and errors of `connection`."""
        if self._pool is None:
            raise HistoryUnavailable("no connection to the database yet")
        self.metrics.asked(operation)
        try:
            yield self._pool
            self._failing.over()
        except psycopg.Error as error:
            self.metrics.errors.labels(operation).inc()
            self._failing.failed(error, operation=operation)
            raise HistoryUnavailable(f"{operation} failed: {error}") from error
