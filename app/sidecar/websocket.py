"""WS /ws/alerts: every alert as one JSON text, from now on or from after a given `seq`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from app.sidecar.alert_log import AlertLog, Block
from app.sidecar.client_socket import ClientSocket
from app.sidecar.feeds import AlertFeed, alert_json
from app.sidecar.history import AlertHistory, HistoryUnavailable
from app.sidecar.limits import SidecarLimits
from app.sidecar.origins import Origins
from app.sidecar.parameters import Parameters
from app.sidecar.problems import RequestError
from app.sidecar.receivers import GOING_AWAY, TOO_SLOW, Receiver, Receivers
from app.sidecar.wire import text_frame
from app.telemetry import GatewayMetrics

AHEAD = "since is ahead of the newest alert, as after the sequence began anew: connect without it"
BEHIND = "the history is not complete yet: try again with the same since"
STARTING = "the sidecar is still reading what was there: try again"
NO_HISTORY = "the history cannot be reached: try again with the same since"
_POLL_S = 0.05

log = structlog.get_logger("sidecar.websocket")


class ResumeError(Exception):
    """Told to the client as the reason of its closing."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class AlertStream:
    """Serves the connections of /ws/alerts."""

    def __init__(
        self,
        alerts: AlertLog,
        feed: AlertFeed,
        receivers: Receivers,
        history: AlertHistory,
        origins: Origins,
        limits: SidecarLimits,
        metrics: GatewayMetrics,
        caught_up: Callable[[], bool],
    ) -> None:
        """`caught_up`: whether the topic of alerts has been read up to where it ended at the start."""
        self._alerts = alerts
        self._feed = feed
        self._receivers = receivers
        self._history = history
        self._origins = origins
        self._limits = limits
        self._metrics = metrics
        self._caught_up = caught_up
        self._connected: set[Receiver] = set()
        self._stopping = False
        self._stored_seq = -1
        """What the database was last seen to hold."""

    @property
    def clients(self) -> int:
        return len(self._connected)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if not self._origins.may_connect(request):
            raise RequestError(403, "origin_refused", "pages of this origin may not connect")
        since = Parameters(request.query, ("since",)).whole_number("since", least=-1, most=2**62)
        if len(self._connected) >= self._limits.max_clients or self._stopping:
            raise RequestError(
                503, "too_many_clients", "no more clients are taken here", {"Retry-After": "5"}
            )
        response = ClientSocket(self._limits.client_message_bytes)
        writer = await response.prepare(request)
        transport = request.transport
        if transport is None:
            return response
        receiver = Receiver(writer, request.protocol, transport, self._limits, self._metrics)
        response.closes_by(receiver.close)
        self._connected.add(receiver)
        self._metrics.websocket_connections.inc()
        try:
            await self._serve(response, receiver, since)
        finally:
            self._connected.discard(receiver)
            self._receivers.discard(receiver)
            self._metrics.websocket_connections.dec()
            await receiver.finish()
        return response

    async def drain(self) -> None:
        """Takes no more clients, and closes those there are as going away."""
        self._stopping = True
        closing = [receiver.close(WSCloseCode.GOING_AWAY, GOING_AWAY) for receiver in tuple(self._connected)]
        if closing:
            await asyncio.wait(closing)

    async def watch(self) -> None:
        """Looks after the clients for as long as the process lives: pings, and closes those that are dead."""
        while True:
            await asyncio.sleep(self._limits.heartbeat_s / 4)
            for receiver in tuple(self._connected):
                receiver.check()

    async def _serve(self, response: ClientSocket, receiver: Receiver, since: int | None) -> None:
        """Reads what the client says (nothing is expected) while the alerts are sent."""
        start = asyncio.create_task(self._start(receiver, since))
        try:
            await self._read(response, receiver)
        finally:
            start.cancel()
            await asyncio.wait([start])

    async def _read(self, response: ClientSocket, receiver: Receiver) -> None:
        """Until the client closes or is gone (or this handler is cancelled)."""
        kind = WSMsgType.ERROR
        try:
            while True:
                kind, data, _ = await response.receive()
                receiver.heard()
                if kind is WSMsgType.PING:
                    receiver.pong(data)
                elif kind not in (WSMsgType.PONG, WSMsgType.TEXT, WSMsgType.BINARY):
                    return
        finally:
            receiver.stopped_reading(answered=kind is not WSMsgType.ERROR)

    async def _start(self, receiver: Receiver, since: int | None) -> None:
        """Brings the client up to now and makes it a receiver of all that follows."""
        try:
            if since is None:
                await self._reach_now()
            else:
                await self._catch_up(receiver, since)
            self._receivers.add(receiver)
        except ResumeError as refusal:
            receiver.close(refusal.code, refusal.reason)
        except TimeoutError:
            receiver.close(WSCloseCode.TRY_AGAIN_LATER, TOO_SLOW)
        except ConnectionError:
            pass  # the client is gone, and its handler ends by itself
        except Exception:  # a fault here must end this client alone, and be seen
            log.exception("cannot_start_client")
            receiver.close(WSCloseCode.INTERNAL_ERROR, "the sidecar failed")

    async def _catch_up(self, receiver: Receiver, since: int) -> None:
        """Sends all alerts after `since`. Nothing is awaited between its last look and its return, so that
        the next alert broadcast is the first one not sent here."""
        await self._reach(since)
        cursor, epoch = since, self._feed.epoch
        while True:
            if epoch != self._feed.epoch:
                raise ResumeError(WSCloseCode.SERVICE_RESTART, AHEAD)
            if self._alerts.holds_all_after(cursor):
                block = self._alerts.after(cursor, self._limits.catch_up_alerts)
                if block is None:
                    return
            else:
                block = await self._from_database(cursor)
            if block.messages:
                await receiver.send(block)
            cursor = block.last_seq

    async def _reach(self, since: int) -> None:
        """Waits until this sidecar has read up to `since`: another one may have been ahead of it."""
        if not await self._comes_true(lambda: self._feed.epoch > 0 and self._alerts.newest_seq >= since):
            if self._caught_up():
                raise ResumeError(WSCloseCode.POLICY_VIOLATION, AHEAD)
            raise ResumeError(WSCloseCode.TRY_AGAIN_LATER, STARTING)

    async def _reach_now(self) -> None:
        """Waits until what was there before this sidecar started has been read: it is not news."""
        if not await self._comes_true(self._caught_up):
            raise ResumeError(WSCloseCode.TRY_AGAIN_LATER, STARTING)

    async def _comes_true(self, condition: Callable[[], bool]) -> bool:
        """Whether it does within `settle_s`."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._limits.settle_s
        while not condition():
            if loop.time() >= until_s:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def _from_database(self, cursor: int) -> Block:
        """The next alerts after `cursor` that memory does not hold; its last_seq is at most the floor."""
        floor_seq = self._alerts.floor_seq
        try:
            await self._wait_until_stored(self._alerts.settled_seq)
            found = await self._history.since(cursor, self._limits.catch_up_alerts)
        except HistoryUnavailable:
            raise ResumeError(WSCloseCode.TRY_AGAIN_LATER, NO_HISTORY) from None
        stored = [alert for alert in found if alert["seq"] <= floor_seq]
        if not stored:
            return Block(b"", 0, floor_seq)
        frames = [text_frame(alert_json(alert["seq"], alert)) for alert in stored]
        return Block(b"".join(frames), len(frames), stored[-1]["seq"])

    async def _wait_until_stored(self, seq: int) -> None:
        """Returns when the database holds all alerts up to `seq`: they are written in order."""
        try:
            async with asyncio.timeout(self._limits.settle_s):
                while self._stored_seq < seq:
                    newest_seq = await self._history.newest_seq()
                    self._stored_seq = -1 if newest_seq is None else newest_seq
                    if self._stored_seq < seq:
                        await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise ResumeError(WSCloseCode.TRY_AGAIN_LATER, BEHIND) from None
