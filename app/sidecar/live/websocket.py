"""The two WebSocket endpoints: /ws/alerts, every new alert as one JSON text; /ws, channels to subscribe to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from aiohttp import WSCloseCode, web

from app.clock import Clock
from app.sidecar.access.admission import known_caller, token_required
from app.sidecar.http.parameters import Parameters, alert_id
from app.sidecar.live.alert_groups import EVERY_NEW_ALERT, AlertFrame, AlertGroups, Wanted
from app.sidecar.live.alert_log import LoggedAlert
from app.sidecar.live.alert_resume import AlertResume, ResumeError
from app.sidecar.live.client_user import ClientUser
from app.sidecar.live.clients import Client, Clients
from app.sidecar.live.frames import blocks
from app.sidecar.live.receivers import Receiver, ending_client
from app.sidecar.live.server_messages import plain_alert_frame
from app.sidecar.live.session import Channels, Session
from app.sidecar.state.limits import SidecarLimits

AHEAD: Final = "since is ahead of the newest alert, because the sequence started again: connect without it"
TOO_OLD: Final = "since is too old, the alerts after it are no longer stored: connect without it"
_SINCE: Final = {"least": -1, "most": 2**62}


class AlertStream:
    """WS /ws/alerts: new alerts, or all alerts after a given `since`. Messages of the client are ignored."""

    def __init__(
        self,
        clients: Clients,
        groups: AlertGroups,
        resume: AlertResume,
        limits: SidecarLimits,
        clock: Clock,
        closed: bool,
        frame: AlertFrame = plain_alert_frame,
    ) -> None:
        """`closed`: clients need a token in the Authorization header, and are closed when it expires. frame: encodes
        an alert."""
        self._clients = clients
        self._groups = groups
        self._resume = resume
        self._limits = limits
        self._clock = clock
        self._closed = closed
        self._frame = frame

    async def handle(self, request: web.Request) -> web.StreamResponse:
        parameters = Parameters(request.query, ("since", "since_id", "backfilled"))
        since = parameters.whole_number("since", **_SINCE)
        since_id = alert_id(parameters)
        return await self._follow(
            request, Wanted(backfilled=bool(parameters.flag("backfilled"))), since, since_id
        )

    async def handle_new(self, request: web.Request) -> web.StreamResponse:
        """Serve new alerts only; parameters are ignored."""
        return await self._follow(request, EVERY_NEW_ALERT, None, None)

    async def _follow(
        self, request: web.Request, wanted: Wanted, since: int | None, since_id: str | None
    ) -> web.StreamResponse:
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
                await self._serve(client, wanted, since, since_id)
            return client.socket

    async def _serve(self, client: Client, wanted: Wanted, since: int | None, since_id: str | None) -> None:
        receiver = client.receiver
        start = asyncio.create_task(
            ending_client(receiver, partial(self._start, receiver, wanted, since, since_id))
        )
        try:
            await client.listen(_ignore)
        finally:
            start.cancel()
            await asyncio.wait([start])
            self._groups.discard(receiver)

    async def _start(
        self, receiver: Receiver, wanted: Wanted, since: int | None, since_id: str | None
    ) -> None:
        """Send the client the alerts it has missed, and make it a receiver of all later ones."""

        def join() -> None:
            self._groups.add(receiver, self._frame, wanted)

        async def send(alerts: Sequence[LoggedAlert]) -> None:
            frames = (self._frame(alert) for alert in alerts if wanted.includes(alert))
            for block in blocks(frames, self._limits.block_bytes):
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
    """Ignore a message: the endpoint only sends."""
