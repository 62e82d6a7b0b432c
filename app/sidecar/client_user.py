"""Whose a WebSocket connection is: it counts among those of its user, and ends with the user's token."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Final

from aiohttp import WSCloseCode

from app.clock import Clock
from app.sidecar.auth import Caller
from app.sidecar.clients import Clients
from app.sidecar.receivers import Receiver

EXPIRED: Final = "the token has expired: connect again with a new one"
TOO_MANY_OF_USER: Final = "this user has as many connections as one may have"


class ClientUser:
    """`caller`: None for a client that has shown no token."""

    def __init__(self, receiver: Receiver, clients: Clients, clock: Clock, check_s: float) -> None:
        """check_s: how often at least the time left of the token is looked at."""
        self.caller: Caller | None = None
        self._receiver = receiver
        self._clients = clients
        self._clock = clock
        self._check_s = check_s
        self._leaving = ExitStack()
        self._expiry: asyncio.TimerHandle | None = None

    def become(self, caller: Caller) -> bool:
        """Takes the caller as the client's user until its token expires; False if that closes the client."""
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
        """Leaves nothing of this client behind."""
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
