"""A WebSocket client as a receiver of ready-made frames, behind a bounded queue."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import WSCloseCode
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web import RequestHandler

from app.sidecar.live.frames import PING, FrameBlock, close_frame, pong_frame
from app.sidecar.state.limits import SidecarLimits
from app.telemetry import SidecarMetrics

TOO_SLOW: Final = "too slow: resume with since=<last seq>"
SILENT: Final = "no answer to pings"
_POLL_S: Final = 0.05

log = structlog.get_logger("sidecar.websocket")


class ClientRefused(Exception):
    """Closes the client, which gets `code` and `reason`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Receiver:
    """One connected client.

    Messages go straight to its transport while it has room; then they queue, up to the limits, and
    one more closes the client as too slow. No other client waits for it.
    """

    __slots__ = (
        "_answered",
        "_closing",
        "_connection",
        "_draining",
        "_ended",
        "_flushing",
        "_heard_at_s",
        "_limits",
        "_metrics",
        "_moved_at_s",
        "_pinged_at_s",
        "_queue",
        "_queued_bytes",
        "_queued_messages",
        "_reading",
        "_stuck_bytes",
        "_transport",
        "_writer",
    )
    # There are thousands of them, most never behind: parts that few need are made on demand.

    def __init__(
        self,
        writer: AbstractStreamWriter,
        connection: RequestHandler,
        transport: asyncio.Transport,
        limits: SidecarLimits,
        metrics: SidecarMetrics,
    ) -> None:
        self._writer = writer
        self._connection = connection
        self._transport = transport
        self._limits = limits
        self._metrics = metrics
        self._queue: deque[FrameBlock] | None = None
        self._queued_messages = 0
        self._queued_bytes = 0
        self._flushing: asyncio.Task[None] | None = None
        self._draining: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._ended: asyncio.Event | None = None
        self._reading = True
        self._answered = False
        self._heard_at_s = self._moved_at_s = asyncio.get_running_loop().time()
        self._pinged_at_s: float | None = None
        self._stuck_bytes = 0
        _bound_buffers(transport, limits.client_socket_bytes)

    @property
    def open(self) -> bool:
        return self._closing is None and not self._transport.is_closing()

    @property
    def takes_now(self) -> bool:
        """Whether data written now goes to the operating system, instead of waiting for the client."""
        return self.open and not self._queue and not self._connection.writing_paused

    def offer(self, block: FrameBlock) -> bool:
        """Send `block` and return True, or queue or reject it and return False; never wait."""
        if not self.open:
            return False
        if not self._queue and not self._connection.writing_paused:
            self._transport.write(block.data)
            return True
        self._enqueue(block)
        return False

    def write(self, block: FrameBlock) -> None:
        """Send `block` at once and count it. Only after `ready`, or when `takes_now`."""
        self._transport.write(block.data)
        self._metrics.websocket_sent.inc(block.messages)

    def say(self, block: FrameBlock) -> None:
        """Offer an answer to this client alone."""
        if self.offer(block):
            self._metrics.websocket_sent.inc(block.messages)

    async def ready(self) -> None:
        """Wait until `takes_now`: the sender of many parts calls it before each part.

        Raises TimeoutError when the client takes no data for `stalled_s`, ConnectionError when it is gone.
        """
        while not self.takes_now:
            if not self.open:
                raise ConnectionResetError("the client is gone")
            if self._flushing is not None and not self._flushing.done():
                done, _ = await asyncio.wait([self._flushing], timeout=self._limits.stalled_s)
                taken = bool(done)
            else:
                taken = await self._takes_more(self._limits.stalled_s)
            if not taken:
                raise TimeoutError

    def close(self, code: int, reason: str, failure: str = "closed") -> asyncio.Task[None]:
        """Send the client the reason, wait up to `close_s` for its answer, then cut it.

        Data in its transport is sent first, above all the rest of a frame. Queued messages are dropped
        and counted under `failure`.
        """
        if self._closing is None:
            self._drop_queue(failure)
            ended = self._transport.is_closing()
            self._metrics.websocket_closed.labels(
                WSCloseCode.ABNORMAL_CLOSURE.value if ended else int(code)
            ).inc()
            self._closing = asyncio.create_task(self._close(code, reason))
        return self._closing

    def cut(self) -> None:
        """End the connection at once and drop its queue."""
        self._transport.abort()

    def heard(self) -> None:
        """Note that the client said something."""
        self._heard_at_s = asyncio.get_running_loop().time()
        self._pinged_at_s = None

    def pong(self, payload: bytes) -> None:
        """Answer a ping, unless that would pile up answers for a client that does not take them."""
        if self.open and not self._connection.writing_paused:
            self._transport.write(pong_frame(payload))

    def check(self) -> None:
        """Ping a quiet client; close one that does not answer, or takes no data."""
        if not self.open:
            return
        now_s = asyncio.get_running_loop().time()
        if self._connection.writing_paused:
            self._check_progress(now_s)
            return
        self._stuck_bytes = 0
        if self._pinged_at_s is None:
            if now_s - self._heard_at_s >= self._limits.heartbeat_s:
                self._pinged_at_s = now_s
                self._transport.write(PING)
        elif now_s - self._pinged_at_s >= self._limits.pong_s:
            self.close(WSCloseCode.INTERNAL_ERROR, SILENT, "silent")

    def stopped_reading(self, answered: bool) -> None:
        """Note that no more is read from this client. `answered`: it closed from its side, or is gone."""
        self._answered = answered
        self._reading = False
        if self._ended is not None:
            self._ended.set()

    async def finish(self) -> None:
        """Remove all state of this client, once its connection is over."""
        self._drop_queue("gone")
        await self.close(WSCloseCode.OK, "")
        await self._takes_more(None)

    def _check_progress(self, now_s: float) -> None:
        """Close a client that takes no data. A ping would wait behind the data; taken bytes also show a live client."""
        self._heard_at_s, self._pinged_at_s = now_s, None
        waiting_bytes = self._transport.get_write_buffer_size()
        if waiting_bytes != self._stuck_bytes:
            self._stuck_bytes, self._moved_at_s = waiting_bytes, now_s
        elif now_s - self._moved_at_s >= self._limits.stalled_s:
            self.close(WSCloseCode.TRY_AGAIN_LATER, TOO_SLOW, "slow")

    def _enqueue(self, block: FrameBlock) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(block)
        self._queued_messages += block.messages
        self._queued_bytes += len(block.data)
        if (
            self._queued_messages > self._limits.client_queue_messages
            or self._queued_bytes > self._limits.client_queue_bytes
        ):
            self.close(WSCloseCode.TRY_AGAIN_LATER, TOO_SLOW, "slow")
        elif self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())

    async def _takes_more(self, within_s: float | None) -> bool:
        """Wait until the transport takes more, or is gone; False when `within_s` passes first.

        The wait is a task of its own, never cancelled: aiohttp keeps one future for all waiters of the same
        transport, and a cancelled waiter would cancel the others.
        """
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._writer.drain())
        done, _ = await asyncio.wait([self._draining], timeout=within_s)
        for task in done:
            if not task.cancelled():
                # the next use of the transport notices a lost connection
                task.exception()
        return bool(done)

    async def _flush(self) -> None:
        while self._queue and not self._transport.is_closing():
            await self._takes_more(None)
            while self._queue and self.open and not self._connection.writing_paused:
                block = self._queue.popleft()
                self._queued_messages -= block.messages
                self._queued_bytes -= len(block.data)
                self.write(block)

    def _drop_queue(self, failure: str) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
        if self._queued_messages:
            self._metrics.websocket_failed.labels(failure).inc(self._queued_messages)
        self._queue = None
        self._queued_messages = self._queued_bytes = 0

    async def _close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(self._limits.close_s):
                if not self._transport.is_closing():
                    self._transport.write(close_frame(code, reason))
                await self._sent_all()
                if self._reading:
                    self._ended = asyncio.Event()
                    await self._ended.wait()
                while not self._answered and self._connection.connected:
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            pass
        finally:
            self._transport.abort()

    async def _sent_all(self) -> None:
        """Wait until the operating system has all bytes: ending the connection earlier would cut a frame in two."""
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high=0)
        while self._connection.connected and self._connection.writing_paused:
            await self._takes_more(None)


def _bound_buffers(transport: asyncio.Transport, most_bytes: int) -> None:
    """Limit the buffers, so that a slow client shows after hundreds of alerts, not after megabytes in the operating
    system."""
    transport.set_write_buffer_limits(high=most_bytes)
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, most_bytes)


def end_failed(receiver: Receiver) -> None:
    """End the client after an error in serving it."""
    log.exception("client_failed")
    receiver.close(WSCloseCode.INTERNAL_ERROR, "the sidecar failed")


async def ending_client(receiver: Receiver, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` for a client; an error in it ends this client alone, and is logged."""
    try:
        await work()
    except ClientRefused as refusal:
        receiver.close(refusal.code, refusal.reason)
    except TimeoutError:
        receiver.close(WSCloseCode.TRY_AGAIN_LATER, TOO_SLOW, "slow")
    except ConnectionError:
        pass  # the client is gone, and its handler ends by itself
    except Exception:  # any error: the other clients must not suffer
        end_failed(receiver)
