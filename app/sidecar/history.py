"""Alert history from SQL."""

from __future__ import annotations

from collections.abc import Sequence

from app.database.queries import (
    Alert,
    AlertFilter,
    AlertPage,
    alert_seq,
    alerts_page,
    alerts_since,
    latest_seq,
    oldest_seq,
)
from app.sidecar.database import Database, HistoryUnavailable

__all__ = ["AlertHistory", "HistoryUnavailable"]


class AlertHistory:
    """Every method raises HistoryUnavailable while the database cannot answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: AlertFilter, limit: int, cursor: str | None) -> AlertPage:
        """Newest first. Raises BadInput for a cursor that no page gave."""
        async with self._database.connection("alerts_page") as connection:
            return await alerts_page(connection, wanted, limit, cursor)

    async def since(self, seq: int, limit: int) -> Sequence[Alert]:
        """The alerts after `seq`, in order of seq."""
        async with self._database.connection("alerts_since") as connection:
            return await alerts_since(connection, seq, limit)

    async def seq_of(self, identifier: str) -> int | None:
        """The seq of the alert with this id (a UUID); None when it is not stored."""
        async with self._database.connection("alert_seq") as connection:
            return await alert_seq(connection, identifier)

    async def newest_seq(self) -> int | None:
        async with self._database.connection("latest_seq") as connection:
            return await latest_seq(connection)

    async def oldest_seq(self) -> int | None:
        async with self._database.connection("oldest_seq") as connection:
            return await oldest_seq(connection)
