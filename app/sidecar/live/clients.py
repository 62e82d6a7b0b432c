"""The clients connected over WebSocket: their limits, heartbeats, and the closing of all of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.web import WebSocketResponse

from app.sidecar.access.client_address import ClientAddresses, client_key
from app.sidecar.access.origins import Origins
from app.sidecar.http.problems import RequestError
from app.sidecar.live.receivers import Receiver
from app.sidecar.state.limits import SidecarLimits
from app.telemetry import SidecarMetrics

TOO_MANY_MESSAGES: Final = "too many messages"
GOING_AWAY: Final = "going away: resume with since=<last seq>; retry_after_ms="
_RETRY_AFTER_S: Final = "5"

_REASONS: Final[dict[int, str]] = {
    WSCloseCode.MESSAGE_TOO_BIG: "the message is too large",
    WSCloseCode.PROTOCOL_ERROR: "invalid frame",
    WSCloseCode.INVALID_TEXT: "the message is not UTF-8 text",
}

Hear = Callable[[str | bytes], Awaitable[None]]
Close = Callable[[int, str], "asyncio.Task[None]"]


class ClientSocket(WebSocketResponse):
    """The socket of a client. Only one task may read it, until its end.

    aiohttp's own `close` cuts the connection as soon as its transport takes more, although bytes of a frame,
    and the close frame itself, may still wait there: a slow client would not get them.
    """

    def __init__(self, message_max_bytes: int) -> None:
        super().__init__(autoping=False, compress=False, max_msg_size=message_max_bytes)
        self._close_by: Close | None = None

    def closes_by(self, close: Close) -> None:
        self._close_by = close

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Called by aiohttp: the client closed, broke the protocol, or its handler has ended."""
        if self._close_by is None:
            return await super().close(code=code, message=message, drain=drain)
        self._close_by(code, _REASONS.get(code, ""))
        return True


class MessageBudget:
    """Message budget of a client, pings and pongs included: a token bucket, one token per message."""

    __slots__ = ("_at_s", "_left", "_per_minute")

    def __init__(self, per_minute: int) -> None:
        self._per_minute = self._left = float(per_minute)
        self._at_s = asyncio.get_running_loop().time()

    def allows(self, now_s: float, cost: float = 1.0) -> bool:
        refilled = self._left + (now_s - self._at_s) * self._per_minute / 60
        self._left, self._at_s = min(self._per_minute, refilled) - cost, now_s
        return self._left >= 0


@dataclass(frozen=True, slots=True)
class Client:
    """A connection after its handshake."""

    socket: ClientSocket
    receiver: Receiver
    budget: MessageBudget
    address: str
    """The address or network that counts as one client address."""

    async def listen(self, hear: Hear) -> None:
        """Give `hear` every message, one after the other, until the client closes or is gone."""
        kind, loop = WSMsgType.ERROR, asyncio.get_running_loop()
        try:
            while True:
                kind, data, _ = await self.socket.receive()
                self.receiver.heard()
                if not self.budget.allows(loop.time()):
                    self.receiver.close(WSCloseCode.POLICY_VIOLATION, TOO_MANY_MESSAGES)
                if kind is WSMsgType.PING:
                    self.receiver.pong(data)
                elif kind in (WSMsgType.TEXT, WSMsgType.BINARY):
                    if self.receiver.open:
                        await hear(data)
                elif kind is not WSMsgType.PONG:
                    return
        finally:
            self.receiver.stopped_reading(answered=kind is not WSMsgType.ERROR)


class Clients:
    """Rejects a client above the limit, in all or of one address, before its handshake. The limit of a user, who is
    known later, is checked by `admitted_user`."""

    def __init__(
        self, origins: Origins, addresses: ClientAddresses, limits: SidecarLimits, metrics: SidecarMetrics
    ) -> None:
        self._origins = origins
        self._addresses = addresses
        self._limits = limits
        self._metrics = metrics
        self._connected: set[Receiver] = set()
        self._places = 0
        self._of_address: Counter[str] = Counter()
        self._of_user: Counter[str] = Counter()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._connected)

    @asynccontextmanager
    async def connected(self, request: web.Request) -> AsyncIterator[Client]:
        """Yield the client after its handshake, and close it at the end. Raises RequestError 403 for a page of another
        origin, 429 or 503 for one client too many."""
        if not self._origins.may_connect(request):
            raise RequestError(403, "origin_refused", "web pages of this origin may not connect")
        address = client_key(self._addresses.of_request(request))
        with self._place(address):
            socket = ClientSocket(self._limits.client_message_bytes)
            receiver = await self._receiver(socket, request)
            socket.closes_by(receiver.close)
            self._connected.add(receiver)
            self._metrics.websocket_connections.inc()
            try:
                if self._stopping:
                    receiver.close(WSCloseCode.GOING_AWAY, f"{GOING_AWAY}0")
                yield Client(
                    socket, receiver, MessageBudget(self._limits.client_messages_per_minute), address
                )
            finally:
                self._connected.discard(receiver)
                self._metrics.websocket_connections.dec()
                await receiver.finish()

    async def _receiver(self, socket: ClientSocket, request: web.Request) -> Receiver:
        """Do the handshake. Raises RequestError when the client did not wait for it, or a header is not UTF-8."""
        try:
            writer = await socket.prepare(request)
        except ConnectionError:
            raise RequestError(400, "client_gone", "the client went away") from None
        except ValueError:  # aiohttp assumes that the key is ASCII, and repeats a rejected header
            raise RequestError(
                400, "bad_request", "a header of the handshake holds bytes that are not UTF-8"
            ) from None
        transport = request.transport
        if transport is None:
            raise RequestError(400, "client_gone", "the client went away")
        return Receiver(writer, request.protocol, transport, self._limits, self._metrics)

    @contextmanager
    def admitted_user(self, user_id: str) -> Iterator[bool]:
        """Yield whether one more connection of this user is allowed; if so, it counts while the context lasts."""
        taken = self._of_user[user_id] < self._limits.max_clients_per_user
        _count(self._of_user, user_id, taken)
        try:
            yield taken
        finally:
            _count(self._of_user, user_id, -taken)

    async def watch(self) -> None:
        """Ping the clients, and close dead ones, until cancelled."""
        while True:
            await asyncio.sleep(min(self._limits.heartbeat_s, self._limits.pong_s) / 4)
            for receiver in tuple(self._connected):
                receiver.check()

    async def drain(self) -> None:
        """Accept no more clients, and close the present ones as going away. Each is told a different time to come
        back: together they would overload the next server."""
        self._stopping = True
        closing = [
            receiver.close(WSCloseCode.GOING_AWAY, f"{GOING_AWAY}{int(n * self._limits.reconnect_every_ms)}")
            for n, receiver in enumerate(tuple(self._connected))
        ]
        if closing:
            await asyncio.wait(closing, timeout=self._limits.drain_s)
        for receiver in tuple(self._connected):
            receiver.cut()

    @contextmanager
    def _place(self, address: str) -> Iterator[None]:
        retry = {"Retry-After": _RETRY_AFTER_S}
        if self._stopping or self._places >= self._limits.max_clients:
            raise RequestError(503, "too_many_clients", "this sidecar has too many clients", retry)
        if self._of_address[address] >= self._limits.max_clients_per_address:
            raise RequestError(429, "too_many_connections", "this address has too many connections", retry)
        self._places += 1
        _count(self._of_address, address, 1)
        try:
            yield
        finally:
            self._places -= 1
            _count(self._of_address, address, -1)


def _count(counter: Counter[str], key: str, by: int) -> None:
    counter[key] += by
    if counter[key] <= 0:
        del counter[key]
