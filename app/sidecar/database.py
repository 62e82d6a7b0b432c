"""The sidecar's connections to the database, for as long as the process lives: they come and go with the database."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import psycopg
import structlog
from psycopg import AsyncConnection

from app.database.connection import Pool, open_pool, show_pool
from app.errors import ServerUnreachable
from app.settings import Settings
from app.sidecar.limits import SidecarLimits
from app.sidecar.uncancelled import to_its_end
from app.telemetry import DatabaseMetrics

_OPEN_TIMEOUT_S: Final = 3.0
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0

log = structlog.get_logger("sidecar.database")


class HistoryUnavailable(ServerUnreachable):
    """The database did not answer a query."""


class Database:
    """One pool for everything the sidecar asks the database: bounded in connections, waiting and query time."""

    def __init__(self, settings: Settings, limits: SidecarLimits, metrics: DatabaseMetrics) -> None:
        self._settings = settings
        self._limits = limits
        self._metrics = metrics
        self._pool: Pool | None = None

    async def run(self) -> None:
        """Opens the pool, trying until it can; closes it when cancelled. The pool reconnects by itself."""
        pause_s = _FIRST_PAUSE_S
        while self._pool is None:
            try:
                self._pool = await to_its_end(
                    open_pool(
                        self._settings,
                        max_size=self._limits.database_connections,
                        statement_timeout_ms=round(self._limits.query_timeout_s * 1000),
                        open_timeout_s=_OPEN_TIMEOUT_S,
                        wait_s=self._limits.connection_wait_s,
                    ),
                    undo=lambda pool: pool.close(),
                )
            except ServerUnreachable as error:
                log.warning("no_database", fault=str(error), retry_in_s=round(pause_s, 2))
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # spreads reconnections
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
        show_pool(self._pool, self._metrics)
        try:
            await asyncio.Event().wait()
        finally:
            await self._pool.close()

    async def ping(self) -> None:
        async with self.connection("ping") as connection:
            await connection.execute("SELECT 1")

    @asynccontextmanager
    async def connection(self, operation: str) -> AsyncIterator[AsyncConnection]:
        """A connection for `operation`, the label it is counted under. Raises HistoryUnavailable, also for what
        the database does not answer within it."""
        async with self.pool(operation) as pool, pool.connection() as connection:
            yield connection

    @asynccontextmanager
    async def pool(self, operation: str) -> AsyncIterator[Pool]:
        """The pool itself; as `connection`."""
        if self._pool is None:
            raise HistoryUnavailable("there is no connection to the database yet")
        self._metrics.queries.labels(operation).inc()
        try:
            yield self._pool
        except psycopg.Error as error:
            self._metrics.errors.labels(operation).inc()
            log.warning("query_failed", operation=operation, fault=repr(error))
            raise HistoryUnavailable(f"{operation} failed: {error}") from error
