"""A WebSocket client on a bare socket, that reads only when told to."""

from __future__ import annotations

import asyncio
import socket as sockets
import struct

CLOSE_OPCODE = 0x8


class StalledClient:
    """A client that connects, then reads nothing until told to."""

    def __init__(self, port: int, path: str = "/ws/alerts", receive_buffer_bytes: int = 32_768) -> None:
        self._port = port
        self._path = path
        self._socket = sockets.socket()
        self._socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, receive_buffer_bytes)
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._stream = bytearray()
        self.head = b""
        """The answer to the handshake."""

    async def __aenter__(self) -> StalledClient:
        await self.connect()
        await self.read_head()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    def reset(self) -> None:
        """End the connection with a reset, as a crash would."""
        self._socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    async def connect(self) -> None:
        """Connect and send the handshake request."""
        await self._loop.sock_connect(self._socket, ("127.0.0.1", self._port))
        request = (
            f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await self._loop.sock_sendall(self._socket, request.encode())

    async def read_head(self) -> None:
        while not self.head.endswith(b"\r\n\r\n"):
            self.head += await self._loop.sock_recv(self._socket, 1)
        assert b" 101 " in self.head

    async def send_text(self, payload: bytes) -> None:
        """Send one masked text frame, with a mask of zeros."""
        await self.send(0x81, payload)

    async def send(self, first_byte: int, payload: bytes) -> None:
        length = len(payload)
        head = bytes((first_byte, 0x80 | length)) if length < 126 else b""
        head = head or bytes((first_byte, 0xFE)) + length.to_bytes(2, "big")
        await self.send_bytes(head + bytes(4) + payload)

    async def send_bytes(self, data: bytes) -> None:
        """Send raw bytes."""
        await self._loop.sock_sendall(self._socket, data)

    async def frames(self, piece_bytes: int) -> list[tuple[int, bytes]]:
        """Return (opcode, payload) of all frames up to the close frame, read in small pieces."""
        found = [await self.next_frame(piece_bytes)]
        while found[-1][0] != CLOSE_OPCODE:
            found.append(await self.next_frame(piece_bytes))
        return found

    async def next_frame(self, piece_bytes: int = 65_536) -> tuple[int, bytes]:
        """Return (opcode, payload) of the next frame; fail if the connection ends within it."""
        while (frame := self._take_frame()) is None:
            piece = await self._loop.sock_recv(self._socket, piece_bytes)
            assert piece, f"the connection ended within a frame, after {len(self._stream)} bytes of it"
            self._stream += piece
        return frame

    def _take_frame(self) -> tuple[int, bytes] | None:
        stream = self._stream
        if len(stream) < 2:
            return None
        length, begin = stream[1], 2
        if length == 126:
            length, begin = int.from_bytes(stream[2:4], "big"), 4
        elif length == 127:
            length, begin = int.from_bytes(stream[2:10], "big"), 10
        if len(stream) < begin or len(stream) < begin + length:
            return None
        frame = stream[0] & 0x0F, bytes(stream[begin : begin + length])
        del stream[: begin + length]
        return frame
