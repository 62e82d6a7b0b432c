"""The WebSocket side: /stream?streams=a/b, /ws/<stream>, and messages that subscribe."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import orjson
import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from app.local.exchange.options import ExchangeOptions
from app.local.exchange.streams.connection import ClientConnection
from app.local.exchange.streams.subscriptions import BadStream, Subscriptions

_MESSAGES_A_SECOND: Final = 10
_MESSAGE_MAX_BYTES: Final = 256 * 1024
log = structlog.get_logger("simexchange")


class WebSockets:
    """All connections. `refuse`: whether new ones are turned away now."""

    def __init__(
        self, subscriptions: Subscriptions, options: ExchangeOptions, refuse: Callable[[], bool]
    ) -> None:
        self._subscriptions = subscriptions
        self._options = options
        self._refuse = refuse
        self.connections: dict[ClientConnection, None] = {}
        """In order of arrival."""
        self.opened = self.cut_as_slow = 0

    async def combined(self, request: web.Request) -> web.StreamResponse:
        """/stream?streams=a/b"""
        names = [name for name in request.query.get("streams", "").split("/") if name]
        return await self._serve(request, names, combined=True)

    async def raw(self, request: web.Request) -> web.StreamResponse:
        """/ws, /ws/<stream>, /ws/<stream>/<stream>"""
        names = [name for name in request.match_info.get("streams", "").split("/") if name]
        return await self._serve(request, names, combined=False)

    def close_all(self) -> None:
        for connection in list(self.connections):
            connection.close(WSCloseCode.GOING_AWAY, "going away")

    async def _serve(self, request: web.Request, names: list[str], *, combined: bool) -> web.StreamResponse:
        if self._refuse():
            raise web.HTTPServiceUnavailable
        if len(set(names)) > self._options.streams_per_connection:
            raise web.HTTPBadRequest(text=self._too_many)
        response = web.WebSocketResponse(
            autoping=False, autoclose=True, compress=False, max_msg_size=_MESSAGE_MAX_BYTES, timeout=1.0
        )
        await response.prepare(request)
        if request.transport is None:
            return response
        connection = ClientConnection(
            request.transport,
            combined=combined,
            lifetime_s=self._options.lifetime_s,
            ping_s=self._options.ping_s,
            buffer_max_bytes=self._options.send_buffer_max_bytes,
        )
        self.connections[connection] = None
        self.opened += 1
        try:
            self._subscriptions.add(connection, names)
            await self._listen(response, connection)
        except BadStream as error:
            connection.close(WSCloseCode.POLICY_VIOLATION, f"invalid stream {error}"[:120])
        finally:
            self._subscriptions.remove(connection, list(connection.streams))
            del self.connections[connection]
            self.cut_as_slow += connection.too_slow
        return response

    async def _listen(self, response: web.WebSocketResponse, connection: ClientConnection) -> None:
        second, messages = 0, 0
        async for message in response:
            connection.heard_s = time.monotonic()
            if message.type is not WSMsgType.PONG:
                now = int(connection.heard_s)
                messages = messages + 1 if now == second else 1
                second = now
                if messages > _MESSAGES_A_SECOND:
                    connection.close(WSCloseCode.POLICY_VIOLATION, "Too many requests")
            if message.type is WSMsgType.PING:
                connection.pong(message.data)
            elif message.type is WSMsgType.TEXT:
                connection.send_json(self._answer(connection, message.data))

    def _answer(self, connection: ClientConnection, text: str) -> dict[str, object]:
        try:
            asked = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return _error(3, f"Invalid JSON: {error}")
        if not isinstance(asked, dict):
            return _error(1, "Invalid value type: expected an object")
        identifier = asked.get("id")
        names = asked.get("params", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return _error(2, "Invalid request: params must be an array of stream names", identifier)
        match asked.get("method"):
            case "LIST_SUBSCRIPTIONS":
                return {"result": list(connection.streams), "id": identifier}
            case "UNSUBSCRIBE":
                self._subscriptions.remove(connection, names)
            case "SUBSCRIBE":
                if len({*connection.streams, *names}) > self._options.streams_per_connection:
                    return _error(2, self._too_many, identifier)
                try:
                    self._subscriptions.add(connection, names)
                except BadStream as error:
                    return _error(2, f"Invalid request: no stream can be named {error}", identifier)
            case other:
                return _error(2, f"Invalid request: unknown method {other}", identifier)
        return {"result": None, "id": identifier}

    @property
    def _too_many(self) -> str:
        return f"Invalid request: at most {self._options.streams_per_connection} streams a connection"


def _error(code: int, message: str, identifier: object = None) -> dict[str, object]:
    return {"error": {"code": code, "msg": message}, "id": identifier}
