"""One socket to an exchange, from opening to its end, with a watch over its silence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from app.feed.exchanges.answers import shown
from app.process.tasks import ended

_MOST_BYTES: Final = 16 * 1024 * 1024
"""Of one message: all tickers of a market take about 0.3 MB."""
_CLOSING_S: Final = 1.0
"""How long the other side may take to answer a close."""
_ANSWER_WITHIN_BYTES: Final = 200
_MESSAGES_A_TURN: Final = 64
_LOOKS_PER_STALE: Final = 4
_REFUSING: Final = (401, 403, 418, 429, 451)
_CONTENT: Final = (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)


Take = Callable[[bytes], None]
"""Gets every message."""
Room = Callable[[], Awaitable[None]]
"""Returns when more messages can be taken."""


async def always_room() -> None:
    """A `Room` for messages that are not queued."""
    await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams of a socket. messages: sent when it is open. keepalive: sent every `keepalive_s`; a message with
    `keepalive_answer` is the answer to it."""

    url: str
    messages: Sequence[str] = ()
    keepalive: str = ""
    keepalive_s: float | None = None
    keepalive_answer: bytes = b""


class Socket:
    """Opens at once and reads until it ends by itself or by `close`; messages go to `take` as they come, as long as
    there is `room`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        streams: Streams,
        take: Take,
        room: Room,
        *,
        connect_s: float,
        stale_s: float,
    ) -> None:
        """connect_s: it must be open by then. stale_s: silence after which it is given up."""
        self.streams = streams
        self.opened = asyncio.Event()
        self.spoke = asyncio.Event()
        """Set with the first message."""
        self.why_ended = ""
        self.refused = False
        """Whether the exchange does not want to serve this address, now or ever."""
        self._session = session
        self._take = take
        self._room = room
        self._connect_s = connect_s
        self._stale_s = stale_s
        self._heard_s = 0.0
        self._task = asyncio.create_task(self._run(), name="exchange-socket")

    @property
    def ended(self) -> bool:
        return self._task.done()

    async def until_ended(self) -> None:
        await asyncio.wait({self._task})

    async def until_ended_or(self, event: asyncio.Event) -> None:
        happened = asyncio.create_task(event.wait(), name="exchange-socket-event")
        try:
            await asyncio.wait({self._task, happened}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            happened.cancel()

    async def close(self) -> None:
        await ended(self._task)

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(self._connect_s):
                socket = await self._session.ws_connect(
                    self.streams.url,
                    max_msg_size=_MOST_BYTES,
                    decode_text=False,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSING_S),
                )
        except aiohttp.WSServerHandshakeError as error:
            self.refused = error.status in _REFUSING
            self.why_ended = f"cannot be opened: the exchange answers {error.status} {shown(error.message)}"
            return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.why_ended = f"cannot be opened: {error!r}"
            return
        self.opened.set()
        beside: list[asyncio.Task[None]] = []
        try:
            for message in self.streams.messages:
                await socket.send_str(message)
            beside.append(asyncio.create_task(self._watch(socket), name="exchange-socket-watch"))
            if self.streams.keepalive_s is not None:
                beside.append(asyncio.create_task(self._keep_alive(socket), name="exchange-socket-keepalive"))
            await self._receive(socket)
        except (aiohttp.ClientError, OSError) as error:
            self.why_ended = f"broken: {error!r}"
        finally:
            await ended(*beside)
            await socket.close()

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        now_s = asyncio.get_running_loop().time
        messages = 0
        while True:
            message = await socket.receive()
            if message.type not in _CONTENT:
                said = repr(message.data) if message.type is aiohttp.WSMsgType.ERROR else socket.close_code
                self.why_ended = self.why_ended or f"closed: {said}"
                return
            answer = self.streams.keepalive_answer
            if not answer or answer not in message.data[:_ANSWER_WITHIN_BYTES]:
                self._heard_s = now_s()
            self._take(message.data)
            self.spoke.set()
            messages += 1
            if messages % _MESSAGES_A_TURN == 0:
                # messages that are there already are received without letting any other task run
                await self._room()

    async def _watch(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        loop = asyncio.get_running_loop()
        self._heard_s = loop.time()
        while loop.time() - self._heard_s < self._stale_s:
            await asyncio.sleep(self._stale_s / _LOOKS_PER_STALE)
        self.why_ended = f"stale: silent for {self._stale_s:g} s"
        await socket.close()

    async def _keep_alive(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        assert self.streams.keepalive_s is not None
        while True:
            await asyncio.sleep(self.streams.keepalive_s)
            await socket.send_str(self.streams.keepalive)
