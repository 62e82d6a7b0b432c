"""A running sidecar for tests, and clients for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
from prometheus_client import CollectorRegistry

from app.clock import SystemClock
from app.database.migrate import migrate
from app.settings import Settings
from app.sidecar.run import Sidecar, serve_sidecar
from app.sidecar.state.limits import SidecarLimits
from app.telemetry.catalogue import RoleRegistry
from app.wire.kafka import ensure_topics
from tests.support.eventually import eventually

FREE_PORTS: dict[str, Any] = {"sidecar_port": 0, "sidecar_metrics_port": 0}
UNLIMITED: dict[str, Any] = {"rate_limit_per_minute": 0}
"""Settings without a rate limit, because tests poll until a condition holds."""


async def prepare(settings: Settings) -> None:
    """Create the topics and tables that a sidecar reads."""
    await ensure_topics(settings.kafka())
    await asyncio.to_thread(migrate, settings.postgres())


@asynccontextmanager
async def running_sidecar(
    settings: Settings,
    limits: SidecarLimits | None = None,
    *,
    wait_ready: bool = True,
    rate_limited: bool = False,
) -> AsyncIterator[Client]:
    """Run a sidecar on free ports, with its own registry of metrics; yield a client for it."""
    settings = settings.model_copy(update=FREE_PORTS | ({} if rate_limited else UNLIMITED))
    registry = RoleRegistry("sidecar", process=CollectorRegistry())
    async with (
        serve_sidecar(settings, SystemClock(), registry, limits) as sidecar,
        aiohttp.ClientSession(f"http://127.0.0.1:{sidecar.port}") as session,
    ):
        if wait_ready:
            await eventually(lambda: sidecar.parts.health.ready)
        yield Client(sidecar, session)


class Client:
    def __init__(self, sidecar: Sidecar, session: aiohttp.ClientSession) -> None:
        self.sidecar = sidecar
        self.session = session

    async def get(self, path: str, **parameters: str) -> tuple[int, Any]:
        async with self.session.get(path, params=parameters) as response:
            return response.status, await response.json()

    async def assert_refused(self, queries: dict[str, tuple[int, str]]) -> None:
        """queries: path -> the status and error of its answer."""
        found = {}
        for query in queries:
            async with self.session.get(query) as response:
                body = await response.json()
                assert set(body) <= {"error", "message", "position", "faults"}, query
                found[query] = (response.status, body["error"])
        assert found == queries

    async def send(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send a request. Return status and JSON of the answer (None if empty); `body` is sent as JSON unless it is
        bytes."""
        given: dict[str, Any] = (
            {"data": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        )
        async with self.session.request(method, path, headers=headers, **given) as response:
            text = await response.read()
            return response.status, orjson.loads(text) if text else None

    @asynccontextmanager
    async def alerts(self, since: int | None = None) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Yield a WebSocket on /ws/alerts, once the sidecar serves it; with `since`, as soon as it is open."""
        query = "" if since is None else f"?since={since}"
        before = self.receivers
        async with self.session.ws_connect(f"/ws/alerts{query}") as socket:
            if since is None:
                await eventually(lambda: self.receivers > before)
            yield socket

    @asynccontextmanager
    async def channels(self, **headers: str) -> AsyncIterator[Conversation]:
        """Yield a conversation over a WebSocket on /ws."""
        async with self.session.ws_connect("/ws", headers=headers) as socket:
            yield Conversation(socket)

    @property
    def receivers(self) -> int:
        """The number of clients that get every new alert."""
        return len(self.sidecar.parts.receivers)


class Conversation:
    """The messages that a client of /ws sends and receives."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, kind: str, **fields: Any) -> None:
        await self.socket.send_str(orjson.dumps({"type": kind, **fields}).decode())

    async def hear(self, within_s: float = 20.0) -> dict[str, Any]:
        """Return the next message; fail if the connection ends before it."""
        message = await self.socket.receive(within_s)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        found: dict[str, Any] = orjson.loads(message.data)
        return found

    async def hear_kind(self, kind: str) -> dict[str, Any]:
        """Return the next message, which must have this type."""
        found = await self.hear()
        assert found["type"] == kind, found
        return found

    async def hear_alerts(self, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Return the data of the next alerts, until `enough` returns true for them; other messages fail the test."""
        found: list[dict[str, Any]] = []
        while not enough(found):
            message = await self.hear_kind("alert")
            assert (message["channel"], message["seq"]) == ("alerts", message["data"]["seq"])
            found.append(message["data"])
        return found

    async def subscribe(self, channel: str, **fields: Any) -> dict[str, Any]:
        """Subscribe to a channel; return the answer."""
        await self.say("subscribe", channel=channel, **fields)
        answer = await self.hear_kind("subscribed")
        assert answer["channel"] == channel
        return answer

    async def close_of(self) -> tuple[int | None, str]:
        return await read_close(self.socket)


async def read_alerts(
    socket: aiohttp.ClientWebSocketResponse,
    enough: Callable[[list[dict[str, Any]]], bool],
    within_s: float = 20.0,
) -> list[dict[str, Any]]:
    """Return the alerts received until `enough` returns true for them; fail if the connection ends before."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(within_s):
        while not enough(found):
            message = await socket.receive()
            assert message.type is aiohttp.WSMsgType.TEXT, f"{message} after {len(found)} alerts"
            found.append(orjson.loads(message.data))
    return found


async def read_until_id(socket: aiohttp.ClientWebSocketResponse, identifier: str) -> list[dict[str, Any]]:
    return await read_alerts(socket, lambda found: bool(found) and found[-1]["id"] == identifier)


async def read_close(
    socket: aiohttp.ClientWebSocketResponse, within_s: float = 20.0
) -> tuple[int | None, str]:
    """Return the code and reason with which the sidecar closes; drop the messages before that."""
    async with asyncio.timeout(within_s):
        while True:
            message = await socket.receive()
            if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                return socket.close_code, str(message.extra)
