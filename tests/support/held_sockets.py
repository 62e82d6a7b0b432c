"""Sockets that a hostile client holds open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

_TIMEOUT_S = 20.0


@asynccontextmanager
async def held_sockets(port: int, number: int, first: bytes = b"") -> AsyncIterator[list[socket.socket]]:
    """Yield connections that have sent `first`, and from which nothing is read."""
    async with AsyncExitStack() as closing:
        found = []
        for _ in range(number):
            one = await asyncio.to_thread(_held, port, first)
            closing.callback(one.close)
            found.append(one)
        yield found


def _held(port: int, first: bytes) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    one.settimeout(_TIMEOUT_S)
    one.connect(("127.0.0.1", port))
    one.sendall(first)
    return one
