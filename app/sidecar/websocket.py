"""The two WebSocket endpoints: /ws/alerts, every alert as one JSON text; /ws, channels one subscribes to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from aiohttp import WSCloseCode, web

from app.clock import Clock
from app.sidecar.admission import known_caller, token_required
from app.sidecar.alert_groups import AlertGroups
from app.sidecar.alert_log import LoggedAlert
from app.sidecar.alert_resume import AlertResume, ResumeError
from app.sidecar.blocks import blocks
from app.sidecar.client_user import ClientUser
from app.sidecar.clients import Client, Clients
from app.sidecar.limits import SidecarLimits
from app.sidecar.parameters import Parameters, alert_id
from app.sidecar.receivers import Receiver, ending_client
from app.sidecar.server_messages import plain_alert_frame
from app.sidecar.session import Channels, Session

AHEAD: Final = "since is ahead of the newest alert, as after the sequence began anew: connect without it"
TOO_OLD: Final = "since is too old, alerts after it are not stored any more: connect without it"
_SINCE: Final = {"least": -1, "most": 2**62}


class AlertStream:
    """WS /ws/alerts: from now on, or from after a given `since`. What a client says is not looked at."""

    def __init__(
        self,
        clients: Clients,
        groups: AlertGroups,
        resume: AlertResume,
        limits: SidecarLimits,
        clock: Clock,
        closed: bool,
    ) -> None:
        """`closed`: only for whoever shows a token in the Authorization header, and until that expires."""
        self._clients = clients
        self._groups = groups
        self._resume = resume
        self._limits = limits
        self._clock = clock
        self._closed = closed

    async def handle(self, request: web.Request) -> web.StreamResponse:
        parameters = Parameters(request.query, ("since", "since_id"))
        since = parameters.whole_number("since", **_SINCE)
        since_id = alert_id(parameters)
        caller = known_caller(request)
        if self._closed and caller is None:
            raise token_required()
        async with self._clients.connected(request) as client:
            with ExitStack() as leaving:
                if caller is not None:
                    user = ClientUser(
                        client.receiver, self._clients, self._clock, self._limits.expiry_check_s
                    )
                    leaving.callback(user.end)
                    user.become(caller)
                await self._serve(client, since, since_id)
            return client.socket

    async def _serve(self, client: Client, since: int | None, since_id: str | None) -> None:
        receiver = client.receiver
        start = asyncio.create_task(ending_client(receiver, partial(self._start, receiver, since, since_id)))
        try:
            await client.listen(_ignore)
        finally:
            start.cancel()
            await asyncio.wait([start])
            self._groups.discard(receiver)

    async def _start(self, receiver: Receiver, since: int | None, since_id: str | None) -> None:
        """Brings the client up to now and makes it a receiver of all that follows."""

        def join() -> None:
            self._groups.add(receiver, plain_alert_frame)

        async def send(alerts: Sequence[LoggedAlert]) -> None:
            for block in blocks(map(plain_alert_frame, alerts), self._limits.block_bytes):
                await receiver.ready()
                receiver.write(block)

        if since is None:
            await self._resume.reach_now()
            join()
            return
        gap = await self._resume.find_gap(since, since_id)
        if gap is not None:
            reason = TOO_OLD if gap.reason == "too_old" else AHEAD
            raise ResumeError(WSCloseCode.POLICY_VIOLATION, reason)
        await self._resume.catch_up(since, send, join)


class ChannelStream:
    """WS /ws: see the messages of `client_messages` and `server_messages`."""

    def __init__(self, clients: Clients, channels: Channels, limits: SidecarLimits) -> None:
        self._clients = clients
        self._channels = channels
        self._limits = limits

    async def handle(self, request: web.Request) -> web.StreamResponse:
        Parameters(request.query, ())
        caller = known_caller(request)
        async with self._clients.connected(request) as client:
            session = Session(client, self._channels, self._limits)
            try:
                session.begin(caller)
                await client.listen(session.hear)
            finally:
                await session.end()
            return client.socket


async def _ignore(_: str | bytes) -> None:
    """An endpoint that only sends."""
