"""WebSocket clients of /ws/alerts that note when each alert arrives: `python -m benchmarks.alert_listener`.

It is a separate process without a WebSocket library, because the clients' own cost must not count as the screener's
latency. So it only notes when bytes arrive, and parses them once no more have come for a while. It prints one JSON
line when all clients are connected, and one whenever each of them has received another `alerts` alerts.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import time
from collections.abc import Callable
from typing import cast

import orjson
import uvloop

Arrival = tuple[int, bytes]
"""UTC ns at which the last byte was read, JSON text."""
_TEXT, _CLOSE, _PING = 1, 8, 9
_MASKED_PONG = 0x8A
_CALM_S = 0.03
"""How long no bytes must have come before they are parsed."""


class AlertClient(asyncio.Protocol):
    """One connection, which calls `has_all` when it has `alerts` arrivals."""

    def __init__(self, request: bytes, alerts: int, has_all: Callable[[], None]) -> None:
        self._request = request
        self._alerts = alerts
        self._has_all = has_all
        self._buffer = bytearray()
        self._unread: list[tuple[int, bytes]] = []
        """(UTC ns at which they came, bytes)"""
        self._reading: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self.connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.arrivals: list[Arrival] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(f"the connection was lost: {error!r}")

    def data_received(self, data: bytes) -> None:
        self._unread.append((time.time_ns(), data))
        if self._reading is None:
            self._reading = asyncio.get_running_loop().call_later(_CALM_S, self._read_if_calm)

    def _read_if_calm(self) -> None:
        calm_for_s = (time.time_ns() - self._unread[-1][0]) / 1e9
        if calm_for_s < _CALM_S:
            left_s = _CALM_S - calm_for_s
            self._reading = asyncio.get_running_loop().call_later(left_s, self._read_if_calm)
            return
        self._reading = None
        unread, self._unread = self._unread, []
        for now_ns, data in unread:
            self._read(now_ns, data)

    def _read(self, now_ns: int, data: bytes) -> None:
        self._buffer += data
        if not self.connected.done():
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self.closed.set_result(f"no WebSocket: {bytes(head[:200])!r}")
                return
            self._buffer = rest
            self.connected.set_result(None)
        self._take_frames(now_ns)

    def _take_frames(self, now_ns: int) -> None:
        """Read all complete frames. They are unmasked and final (RFC 6455, 5.2), as servers send them."""
        buffer, position = self._buffer, 0
        while len(buffer) >= position + 2:
            opcode, length, start = buffer[position] & 15, buffer[position + 1], position + 2
            if length > 125:
                start += 2 if length == 126 else 8
                length = int.from_bytes(buffer[position + 2 : start], "big")
            if len(buffer) < start + length:
                break
            self._take(opcode, bytes(buffer[start : start + length]), now_ns)
            position = start + length
        del buffer[:position]

    def _take(self, opcode: int, payload: bytes, now_ns: int) -> None:
        if opcode == _TEXT:
            self.arrivals.append((now_ns, payload))
            if len(self.arrivals) == self._alerts:
                self._has_all()
        elif opcode == _PING and self._transport is not None:
            # clients must mask; a mask of zeros leaves the payload as it is
            self._transport.write(bytes((_MASKED_PONG, 0x80 | len(payload), 0, 0, 0, 0)) + payload)
        elif opcode == _CLOSE and not self.closed.done():
            self.closed.set_result(f"closed by the server: {payload!r}")


async def listen(port: int, clients: int, alerts: int) -> None:
    """Listen until the process is ended. Raises ConnectionError when a client is closed."""
    all_have = asyncio.Event()
    listening: list[AlertClient] = []

    def one_has_all() -> None:
        if all(len(client.arrivals) >= alerts for client in listening):
            all_have.set()

    loop = asyncio.get_running_loop()
    for _ in range(clients):
        _, client = await loop.create_connection(
            lambda: AlertClient(_upgrade_request(port), alerts, one_has_all), "127.0.0.1", port
        )
        listening.append(client)
    closings = [client.closed for client in listening]
    await _first(asyncio.gather(*(client.connected for client in listening)), closings)
    print(orjson.dumps({"connected": clients}).decode(), flush=True)
    while True:
        await _first(loop.create_task(all_have.wait()), closings)
        all_have.clear()
        taken = [client.arrivals[:alerts] for client in listening]
        for client in listening:
            del client.arrivals[:alerts]
        print(orjson.dumps([_as_rows(arrivals) for arrivals in taken]).decode(), flush=True)


async def _first(wanted: asyncio.Future[object], closings: list[asyncio.Future[str]]) -> None:
    await asyncio.wait([wanted, *closings], return_when=asyncio.FIRST_COMPLETED)
    for closing in closings:
        if closing.done():
            raise ConnectionError(closing.result())


def _as_rows(arrivals: list[Arrival]) -> list[dict[str, object]]:
    rows = []
    for received_ns, text in arrivals:
        alert = orjson.loads(text)
        rows.append(
            {
                "symbol": alert["symbol"],
                "rule_type": alert["rule_type"],
                "timings": alert["timings"],
                "received_ns": received_ns,
            }
        )
    return rows


def _upgrade_request(port: int) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET /ws/alerts HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


if __name__ == "__main__":
    uvloop.run(listen(*(int(argument) for argument in sys.argv[1:4])))
