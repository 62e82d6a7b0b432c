"""Many WebSocket clients in one process, as cheap as Python makes them: they note when each alert arrived."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import numpy as np
import uvloop

_SEQ = re.compile(rb'"seq":(\d+)')
_GIVE_UP_AFTER_S = 10.0


class Client(asyncio.Protocol):
    """Reads unmasked server frames; takes no notice of anything but texts."""

    def __init__(self, host: str, path: str, received: list[tuple[int, int]]) -> None:
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()
        self._received = received
        self._buffer = bytearray()
        self._upgraded = False
        self.upgraded = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        buffer = self._buffer
        buffer += data
        if not self._upgraded:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            del buffer[: end + 4]
            self._upgraded = True
            self.upgraded.set_result(None)
        while (end := self._frame_end()) is not None:
            if buffer[0] == 0x81:
                found = _SEQ.search(buffer, 0, end)
                assert found is not None
                self._received.append((int(found[1]), now_ns))
            del buffer[:end]

    def _frame_end(self) -> int | None:
        """Where the first frame ends; None while it is not whole."""
        buffer = self._buffer
        if len(buffer) < 4:
            return None
        length = buffer[1]
        end = 2 + length
        if length == 126:
            end = 4 + int.from_bytes(buffer[2:4], "big")
        return end if len(buffer) >= end else None


async def receive(url: str, clients: int, alerts: int, ready: Path) -> np.ndarray:
    """(seq, CLOCK_MONOTONIC ns) of every delivery, shape (2, deliveries); touches `ready` when all listen."""
    address = urlsplit(url)
    assert address.hostname is not None
    received: list[tuple[int, int]] = []
    loop = asyncio.get_running_loop()
    for _ in range(clients):
        _, client = await loop.create_connection(
            lambda: Client(address.netloc, address.path, received), address.hostname, address.port
        )
        await client.upgraded
    # The server makes a client a receiver right after the upgrade.
    await asyncio.sleep(1.0)
    await asyncio.to_thread(ready.touch)
    seen, quiet_since_s = 0, time.monotonic()
    while len(received) < clients * alerts and time.monotonic() - quiet_since_s < _GIVE_UP_AFTER_S:
        await asyncio.sleep(0.1)
        if len(received) != seen:
            seen, quiet_since_s = len(received), time.monotonic()
    return np.array(received, dtype=np.int64).reshape(-1, 2).T


def main() -> None:
    where, clients, alerts, ready, result = sys.argv[1:]
    found = uvloop.run(receive(where, int(clients), int(alerts), Path(ready)))
    unfinished = Path(f"{result}.part")
    with unfinished.open("wb") as file:
        np.save(file, found)
    unfinished.rename(result)


if __name__ == "__main__":
    main()
