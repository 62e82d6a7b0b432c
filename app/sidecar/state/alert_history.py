"""Alert history from SQL."""

from __future__ import annotations

from collections.abc import Sequence

from app.database.alert_history import (
    AlertFilter,
    AlertPage,
    alert_seq,
    alerts_page,
    alerts_since,
    latest_seq,
    oldest_seq,
)
from app.rules.alert import Alert
from app.sidecar.state.database import Database


class AlertHistory:
    """Every method raises HistoryUnavailable while the database cannot answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: AlertFilter, limit: int, cursor: str | None) -> AlertPage:
        """Return a page of alerts, newest first. Raises BadInput for a cursor that no page gave."""
        async with self._database.connection("alerts_page") as connection:
            return await alerts_page(connection, wanted, limit, cursor, self._database.metrics)

    async def since(self, seq: int, limit: int) -> Sequence[Alert]:
        """Return the alerts after `seq`, in order of seq."""
        async with self._database.connection("alerts_since") as connection:
            return await alerts_since(connection, seq, limit, self._database.metrics)

    async def seq_of(self, identifier: str) -> int | None:
        """Return the seq of the alert with this id (a UUID); None if not stored."""
        async with self._database.connection("alert_seq") as connection:
            return await alert_seq(connection, identifier)

    async def newest_seq(self) -> int | None:
        async with self._database.connection("latest_seq") as connection:
            return await latest_seq(connection)

    async def oldest_seq(self) -> int | None:
        async with self._database.connection("oldest_seq") as connection:
            return await oldest_seq(connection)
