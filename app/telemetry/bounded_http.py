"""aiohttp's server with bounds on its clients' use: connections, heads of requests, and unread answers.

aiohttp itself bounds idle connections (`keepalive_timeout`) and how long an unwanted body is read
(`lingering_time`). It has no limit for a head that comes slowly, for an answer that is not read, or for how many
connections there are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from app.library_internals import (
    HookedRunner,
    handler_options,
    is_upgraded,
    reads_head,
    server_loop,
)

_REFUSAL_BODY: Final = (
    b'{"error":"too_many_connections","message":"no more connections are taken now; try again"}'
)
_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_REFUSAL_BODY), _REFUSAL_BODY)
)
_SWEEPS_PER_BOUND: Final = 4
_LONGEST_SWEEP_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class HttpBounds:
    """The bounds of a server. WebSockets count as connections; once upgraded they have bounds of time of their own."""

    connections: int = 256
    connections_per_address: int = 128
    head_s: float = 15.0
    """The head of a request must be complete this long after its first byte."""
    idle_s: float = 75.0
    """A connection without a request for this long is closed; longer than proxies keep idle connections."""
    stalled_s: float = 20.0
    """A client that reads nothing of its answer for this long is cut."""
    answer_s: float = 120.0
    """A client that has not read its whole answer after this time is cut."""
    unread_bytes: int = 64 * 1024 * 1024
    """Bytes of answers that clients have not read, all together; the client with the most is cut first."""
    makes_room: bool = False
    """Whether one connection too many is accepted, and the one that was silent for longest is cut. For pages on which
    the answer to a probe matters, and no client's connection does."""


Counted = Callable[[str], str | None]
"""Peer address -> the key it counts under; None if it is not counted, for example a trusted proxy's."""
Told = Callable[[str], None]
"""Called with why a connection was refused or cut, perhaps for another: too_many, too_many_of_address, slow_head,
unread."""


class BoundedHandler(RequestHandler):
    """One connection."""

    __slots__ = (
        "_answer_since_s",
        "_bounded",
        "_head_since_s",
        "_moved_at_s",
        "_unread_bytes",
        "address",
        "heard_at_s",
    )

    def __init__(self, server: BoundedServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._bounded = server
        self.address: str | None = None
        self._head_since_s: float | None = None
        self._answer_since_s: float | None = None
        self._unread_bytes = 0
        self._moved_at_s = 0.0
        self.heard_at_s = server.now_s()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self.address = self._bounded.counted(peer[0] if isinstance(peer, tuple) else "")
        refusal = self._bounded.refusal(self.address)
        if refusal is not None and self._bounded.make_room(refusal, self.address):
            refusal = None
        self._bounded.enter(self.address)
        if refusal is None:
            super().connection_made(transport)
            return
        self._bounded.told(refusal)
        self.force_close()
        refused = cast(asyncio.Transport, transport)
        refused.write(_REFUSAL)
        refused.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._bounded.leave(self.address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.heard_at_s = self._bounded.now_s()
        if not reads_head(self) or is_upgraded(self):
            self._head_since_s = None
        elif self._head_since_s is None:
            self._head_since_s = self._bounded.now_s()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        self._answer_since_s = self._bounded.now_s()
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._answer_since_s = None

    def unread(self, now_s: float) -> int:
        """Return the bytes of answers that wait for the client; a WebSocket's are bounded elsewhere."""
        if self.transport is None or is_upgraded(self):
            return 0
        waiting_bytes: int = self.transport.get_write_buffer_size()
        if waiting_bytes != self._unread_bytes:
            self._unread_bytes, self._moved_at_s = waiting_bytes, now_s
        return waiting_bytes

    def fault(self, now_s: float, bounds: HttpBounds) -> str | None:
        """Return why the connection must be cut; call it after `unread`."""
        if self._head_since_s is not None and now_s - self._head_since_s > bounds.head_s:
            return "slow_head"
        if self._unread_bytes and now_s - self._moved_at_s > bounds.stalled_s:
            return "unread"
        if self._answer_since_s is not None and now_s - self._answer_since_s > bounds.answer_s:
            return "unread"
        return None

    def cut(self, why: str) -> None:
        """End the connection at once and drop its pending answer."""
        self._bounded.told(why)
        if self.transport is not None:
            self.transport.abort()


class BoundedServer(web.Server):
    """A server that keeps its connections within `bounds`."""

    handler: type[BoundedHandler] = BoundedHandler

    def __init__(
        self,
        made: web.Server,
        bounds: HttpBounds,
        counted: Counted = lambda peer: peer,
        told: Told = lambda _: None,
    ) -> None:
        """`made`: aiohttp's handler of the application, which this wraps."""
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=server_loop(made),
            **handler_options(made),
        )
        self.now_s = server_loop(made).time
        """Seconds of the event loop's clock."""
        self.counted = counted
        self.told = told
        self._bounds = bounds
        self._open = 0
        self._of_address: Counter[str] = Counter()

    def __call__(self) -> RequestHandler:
        return self.handler(self, loop=server_loop(self), **handler_options(self))

    def refusal(self, address: str | None) -> str | None:
        """Return why one more connection is rejected; None if it is not."""
        if self._open >= self._bounds.connections:
            return "too_many"
        if address is not None and self._of_address[address] >= self._bounds.connections_per_address:
            return "too_many_of_address"
        return None

    def make_room(self, refusal: str, address: str | None) -> bool:
        """Cut the connection that was silent for longest, of this address if that has too many; return whether one was
        cut."""
        if not self._bounds.makes_room:
            return False
        others = [
            one
            for one in self.connections
            if isinstance(one, BoundedHandler)
            and one.transport is not None
            and not one.transport.is_closing()
            and (refusal == "too_many" or one.address == address)
        ]
        if others:
            min(others, key=lambda one: one.heard_at_s).cut(refusal)
        return bool(others)

    def enter(self, address: str | None) -> None:
        self._open += 1
        if address is not None:
            self._of_address[address] += 1

    def leave(self, address: str | None) -> None:
        self._open -= 1
        if address is not None:
            self._of_address[address] -= 1
            if self._of_address[address] <= 0:
                del self._of_address[address]

    async def watch(self) -> None:
        """Cut clients beyond the bounds until cancelled."""
        bounds = self._bounds
        pause_s = min(bounds.head_s, bounds.stalled_s, bounds.answer_s, _LONGEST_SWEEP_S * _SWEEPS_PER_BOUND)
        while True:
            await asyncio.sleep(pause_s / _SWEEPS_PER_BOUND)
            self._sweep(self.now_s())

    def _sweep(self, now_s: float) -> None:
        unread: list[tuple[int, BoundedHandler]] = []
        for one in self.connections:
            if not isinstance(one, BoundedHandler):
                continue
            waiting_bytes = one.unread(now_s)
            why = one.fault(now_s, self._bounds)
            if why is not None:
                one.cut(why)
            elif waiting_bytes:
                unread.append((waiting_bytes, one))
        total_bytes = sum(waiting_bytes for waiting_bytes, _ in unread)
        for waiting_bytes, one in sorted(unread, key=lambda pair: pair[0], reverse=True):
            if total_bytes <= self._bounds.unread_bytes:
                return
            one.cut("unread")
            total_bytes -= waiting_bytes


class BoundedRunner(HookedRunner):
    """A `web.AppRunner` over a BoundedServer."""

    __slots__ = ("_bounds", "_counted", "_told", "_watching")
    server_class: type[BoundedServer] = BoundedServer

    def __init__(
        self,
        app: web.Application,
        bounds: HttpBounds,
        *,
        counted: Counted = lambda peer: peer,
        told: Told = lambda _: None,
        shutdown_timeout: float,
    ) -> None:
        super().__init__(
            app, access_log=None, shutdown_timeout=shutdown_timeout, keepalive_timeout=bounds.idle_s
        )
        self._bounds = bounds
        self._counted = counted
        self._told = told
        self._watching: asyncio.Task[None] | None = None

    async def replace_server(self, made: web.Server) -> web.Server:
        server = self.server_class(made, self._bounds, self._counted, self._told)
        self._watching = asyncio.create_task(server.watch())
        return server

    async def before_cleanup(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
