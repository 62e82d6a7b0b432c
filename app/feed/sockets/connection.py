"""One shard of the exchange's streams: a socket that is reopened for ever, and replaced with overlap.

A socket is replaced before the exchange cuts it (after 24 h on Binance), and when its streams change. The new one
must speak before the old one is closed, so that no message is missed; messages of both come twice, which is harmless.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import aiohttp
import structlog

from app.feed.feed_health import FEED_HEALTH
from app.feed.sockets.socket import Room, Socket, Streams, Take
from app.telemetry import FeedMetrics
from app.wire.retry import Backoff, OutageLog

_BACKOFF: Final = Backoff(0.5, 30.0)

log = structlog.get_logger("exchange")


class ConnectionState(StrEnum):
    """closed: not running. waiting: before another attempt. replacing: a second socket is being opened while the
    first still reads."""

    CLOSED = "closed"
    CONNECTING = "connecting"
    OPEN = "open"
    REPLACING = "replacing"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class SocketTimes:
    """Times of a connection, in seconds.

    lifetime_s: a socket is replaced after this time, or up to a tenth less, so that sockets opened together are not
    replaced together. calm_s: a socket that lived this long resets the backoff. backoff: waits before another
    attempt. refused_wait_s: the wait if the exchange refuses to serve us.
    """

    connect_s: float = 10.0
    stale_s: float = 30.0
    lifetime_s: float = 23 * 3600.0
    calm_s: float = 60.0
    backoff: Backoff = _BACKOFF
    refused_wait_s: float = 300.0


class Connection:
    """`run` until cancelled. Messages go to `take` as they come."""

    def __init__(
        self,
        name: str,
        session: aiohttp.ClientSession,
        streams: Streams,
        take: Take,
        room: Room,
        patience: SocketTimes,
        metrics: FeedMetrics,
    ) -> None:
        self.name = name
        self.state = ConnectionState.CLOSED
        self.last_error = ""
        self.reconnects = 0
        self._session = session
        self._metrics = metrics
        self._streams = streams
        self._take = take
        self._room = room
        self._patience = patience
        self._changed = asyncio.Event()
        self._failures = 0
        self._outage = OutageLog(log, "connection_lost", connection=name)

    @property
    def is_open(self) -> bool:
        return self.state in (ConnectionState.OPEN, ConnectionState.REPLACING)

    def change(self, streams: Streams) -> None:
        """Replace the socket by one with other streams; the same ones change nothing."""
        if streams != self._streams:
            self._streams = streams
            self._changed.set()

    async def run(self) -> None:
        current: Socket | None = None
        fresh: Socket | None = None
        try:
            while True:
                self._enter(ConnectionState.REPLACING if current else ConnectionState.CONNECTING)
                self._changed.clear()
                fresh = self._new_socket()
                await fresh.until_ended_or(fresh.spoke if current else fresh.opened)
                if current is not None:
                    # an old socket that cannot be replaced yet continues
                    current = await self._keep_or_close(current, replaced=not fresh.ended)
                if fresh.ended:
                    await self._after_loss(fresh, still_open=current is not None)
                    continue
                current, fresh = fresh, None
                self._outage.over()
                self._enter(ConnectionState.OPEN)
                await self._until_replaced(current)
                if current.ended:
                    ended, current = current, None
                    await self._after_loss(ended, still_open=False)
        finally:
            for socket in (current, fresh):
                if socket is not None:
                    await socket.close()
            self._enter(ConnectionState.CLOSED)

    def _new_socket(self) -> Socket:
        return Socket(
            self._session,
            self._streams,
            self._take,
            self._room,
            connect_s=self._patience.connect_s,
            stale_s=self._patience.stale_s,
        )

    @staticmethod
    async def _keep_or_close(current: Socket, *, replaced: bool) -> Socket | None:
        if replaced:
            await current.close()
        return None if replaced or current.ended else current

    async def _until_replaced(self, socket: Socket) -> None:
        """Wait until the socket has ended, is old, or has other streams to read."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        lifetime_s = self._patience.lifetime_s * random.uniform(0.9, 1.0)  # noqa: S311  # reason: jitter
        waits = {
            asyncio.create_task(socket.until_ended(), name=f"{self.name}-ended"),
            asyncio.create_task(self._changed.wait(), name=f"{self.name}-changed"),
        }
        try:
            await asyncio.wait(waits, timeout=lifetime_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        if loop.time() - began_s >= self._patience.calm_s:
            self._failures = 0
        if not socket.ended:
            log.info("connection_replaced", connection=self.name, streams_changed=self._changed.is_set())

    async def _after_loss(self, socket: Socket, *, still_open: bool) -> None:
        """Count it and wait before the next attempt."""
        self.last_error = socket.why_ended
        self.reconnects += 1
        self._metrics.errors.inc()
        self._metrics.reconnects.inc()
        self._failures += 1
        refused_s = self._patience.refused_wait_s
        backoff = Backoff(refused_s, refused_s) if socket.refused else self._patience.backoff
        wait_s = backoff.wait_s(self._failures)
        self._enter(ConnectionState.REPLACING if still_open else ConnectionState.WAITING)
        self._outage.failed(ConnectionError(socket.why_ended), again_in_s=round(wait_s, 2))
        await asyncio.sleep(wait_s)

    def _enter(self, state: ConnectionState) -> None:
        was_open = self.is_open
        self.state = state
        for one in ConnectionState:
            gauge = self._metrics.connection_state.labels(connection=self.name, state=one.value)
            gauge.set(1 if one is state else 0)
        if self.is_open != was_open:
            FEED_HEALTH.open_connections += 1 if self.is_open else -1
            self._metrics.connections.set(FEED_HEALTH.open_connections)
