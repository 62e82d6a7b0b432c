"""Which alerts a user's settings select, for live clients that ask for theirs."""

from __future__ import annotations

from app.database.user_settings import ANY, read_user_settings
from app.sidecar.alert_groups import Selection
from app.sidecar.database import Database


class UserSelections:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, user_id: str) -> Selection:
        """As the settings are now; empty for a user who has selected nothing. Raises HistoryUnavailable."""
        async with self._database.connection("user_settings") as connection:
            settings = await read_user_settings(connection, user_id)
        selected = {(rule_type, ANY) for rule_type in settings.selected_alerts}
        return frozenset(selected | {(one.rule_type, one.symbol) for one in settings.subscriptions})
