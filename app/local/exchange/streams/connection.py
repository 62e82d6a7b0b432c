"""One WebSocket connection of a client: frames go straight to its transport, or it is cut as too slow."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from typing import Final

import orjson
from aiohttp import WSCloseCode

_CLOSING_GRACE_S: Final = 1.0
_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A


def frame(payload: bytes, opcode: int = _TEXT) -> bytes:
    """Return a whole WebSocket frame of a server, RFC 6455 section 5.2."""
    length = len(payload)
    if length < 126:
        return bytes((opcode, length)) + payload
    if length < 65_536:
        return struct.pack("!BBH", opcode, 126, length) + payload
    return struct.pack("!BBQ", opcode, 127, length) + payload


class ClientConnection:
    """The connection of one client. `combined`: events are wrapped with the name of their stream, as on /stream."""

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        combined: bool,
        lifetime_s: float,
        ping_s: float,
        buffer_max_bytes: int,
    ) -> None:
        self._transport = transport
        self._buffer_max_bytes = buffer_max_bytes
        self.combined = combined
        self.streams: dict[str, None] = {}
        """In order of subscription."""
        self.opened_s = time.monotonic()
        self.expires_s = self.opened_s + lifetime_s
        self._ping_s = ping_s
        self._next_ping_s = self.opened_s + ping_s
        self.heard_s = self.opened_s
        """When the client last sent anything."""
        self.stalled_until_s = 0.0
        self.pending: list[bytes] = []
        """Frames of this round, written together."""
        self.too_slow = False
        self.sent = 0
        connection = transport.get_extra_info("socket")
        if connection is not None:
            # a client that does not read shows here, not after megabytes in the system's buffers
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_max_bytes)

    @property
    def open(self) -> bool:
        return not self._transport.is_closing()

    @property
    def stalled(self) -> bool:
        return time.monotonic() < self.stalled_until_s

    @property
    def waiting_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def flush(self) -> int:
        """Write pending frames and return their number; a stalled connection loses them."""
        frames, self.pending = self.pending, []
        if not self.open or self.stalled:
            return 0
        data = b"".join(frames)
        if self.waiting_bytes + len(data) > self._buffer_max_bytes:
            self.too_slow = True
            self.close(WSCloseCode.POLICY_VIOLATION, "too slow")
            return 0
        self._transport.write(data)
        self.sent += len(frames)
        return len(frames)

    def send(self, payload: bytes) -> None:
        self.pending.append(frame(payload))
        self.flush()

    def send_json(self, value: object) -> None:
        self.send(orjson.dumps(value))

    def pong(self, payload: bytes) -> None:
        self.pending.append(frame(payload, _PONG))
        self.flush()

    def ping_if_due(self, now_s: float, now_ms: int) -> None:
        if now_s >= self._next_ping_s:
            self._next_ping_s = now_s + self._ping_s
            self.pending.append(frame(str(now_ms).encode(), _PING))
            self.flush()

    def close(self, code: int, reason: str) -> None:
        """Send the reason and end the connection; data not sent within a second is lost."""
        if not self.open:
            return
        self._transport.write(frame(struct.pack("!H", code) + reason.encode(), _CLOSE))
        # a client that does not read would keep the transport from ever closing
        self._transport.close()
        asyncio.get_running_loop().call_later(_CLOSING_GRACE_S, self._transport.abort)

    def reset(self) -> None:
        """Cut the connection without a word."""
        self._transport.abort()
