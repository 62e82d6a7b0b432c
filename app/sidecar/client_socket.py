"""aiohttp's handshake and frame parser, with sending, pinging and closing left to a Receiver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import WSCloseCode
from aiohttp.web import WebSocketResponse

_REASONS: Final[dict[int, str]] = {
    WSCloseCode.MESSAGE_TOO_BIG: "the message is too large",
    WSCloseCode.PROTOCOL_ERROR: "the frame breaks the protocol",
    WSCloseCode.INVALID_TEXT: "the message is no UTF-8 text",
}

Close = Callable[[int, str], "asyncio.Task[None]"]


class ClientSocket(WebSocketResponse):
    """To be read by one task only, and until its end.

    aiohttp's own `close` cuts the connection as soon as its transport takes more, although bytes of a frame,
    and the close frame itself, may still wait there; so a slow client would not be told.
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
