"""The user of a WebSocket connection: it counts among the user's connections, ends with the token, and may request the
alerts that the user's settings select."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Final

from aiohttp import WSCloseCode

from app.clock import Clock
from app.database.user_settings import ANY, read_user_settings
from app.sidecar.access.auth import Caller
from app.sidecar.live.alert_groups import Selection
from app.sidecar.live.clients import Clients
from app.sidecar.live.receivers import Receiver
from app.sidecar.state.database import Database

EXPIRED: Final = "the token has expired: reconnect with a new token"
TOO_MANY_OF_USER: Final = "this user has too many connections"


class ClientUser:
    """The user of one client. `caller`: None for a client without a token."""

    def __init__(self, receiver: Receiver, clients: Clients, clock: Clock, check_s: float) -> None:
        """check_s: the longest time between two checks of whether the token has expired."""
        self.caller: Caller | None = None
        self._receiver = receiver
        self._clients = clients
        self._clock = clock
        self._check_s = check_s
        self._leaving = ExitStack()
        self._expiry: asyncio.TimerHandle | None = None

    def become(self, caller: Caller) -> bool:
        """Make the caller the client's user until its token expires; return False if that closes the client."""
        if self.caller is None and not self._leaving.enter_context(
            self._clients.admitted_user(caller.user_id)
        ):
            self._receiver.close(WSCloseCode.POLICY_VIOLATION, TOO_MANY_OF_USER)
            return False
        self._stop_looking()
        self.caller = caller
        self._close_when_expired(caller)
        return True

    def end(self) -> None:
        """Remove all state of this client."""
        self._stop_looking()
        self._leaving.close()

    def _close_when_expired(self, caller: Caller) -> None:
        left_s = caller.expires_at_s - self._clock.now_ms() / 1000
        if left_s <= 0:
            self._receiver.close(WSCloseCode.POLICY_VIOLATION, EXPIRED)
        else:
            self._expiry = asyncio.get_running_loop().call_later(
                min(left_s, self._check_s), self._close_when_expired, caller
            )

    def _stop_looking(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()


class UserSelections:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, user_id: str) -> Selection:
        """Return the user's current selection; empty if nothing is selected. Raises HistoryUnavailable."""
        async with self._database.connection("user_settings") as connection:
            settings = await read_user_settings(connection, user_id)
        selected = {(rule_type, ANY) for rule_type in settings.selected_alerts}
        return frozenset(selected | {(one.rule_type, one.symbol) for one in settings.subscriptions})
