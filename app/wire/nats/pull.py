"""The shared durable JetStream pull consumer, read in large batches.

nats-py's own `fetch` costs about 35 µs of CPU a message, most of it in a timer per message; asking for
batches on one inbox and reading the arrivals costs about half of that.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress

import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error, OutboundBufferLimitError

from app.errors import ServerUnreachable
from app.settings.access import Namespace
from app.wire.nats.patience import Patience
from app.wire.nats.stream import (
    DURABLE,
    await_stream,
    closed_by_server,
    ensure_consumer,
    ensure_stream,
    probe_subject,
    stream_name,
)
from app.wire.retry import Backoff, OutageLog

_EXPIRES_S = 5.0
_REQUEST_BYTES = 16 * 1024 * 1024
_PATIENCE_BEHIND = 20
"""How many times the longest delay a batch waits when the bridge is behind."""
_BACKOFF = Backoff(0.2, 5.0)
log = structlog.get_logger("bridge")


def _is_usual(status: str, description: str) -> bool:
    """Return whether a request ended because it expired, there were no messages, or they had the size asked for. After
    any other end (503 no responders, 409 Consumer Deleted...) stream and consumer must be checked."""
    return (
        status == "408"
        or (status == "404" and description == "No Messages")
        or (status == "409" and "MaxBytes" in description)
    )


class CandlePull:
    """Reads batches of messages of the durable consumer; any number of processes may share it.

    At most `capacity` messages are requested and not yet taken, with at most 16 MB and one message per request; while
    16 MB are waiting it requests no more. So large messages take twice that in memory, however many the stream has.
    """

    def __init__(
        self,
        client: Client,
        namespace: Namespace,
        *,
        capacity: int,
        frame_max_delay_ms: int,
        replicas: int = 1,
    ) -> None:
        """frame_max_delay_ms: the longest time that messages are gathered for a batch. replicas: copies of the
        stream."""
        self._patience = Patience(frame_max_delay_ms / 1000)
        self._client = client
        self._namespace = namespace
        self._replicas = replicas
        self._capacity = capacity
        self._buffer: deque[Msg] = deque()
        self._buffered_bytes = 0
        self._close_waits = False
        """Whether a message with closed candles, by its subject, has come since the buffer was last empty."""
        self._forming = namespace.name("candles.live.")
        self._arrived = asyncio.Event()
        self._close_arrived = asyncio.Event()
        self._outstanding = 0
        self._heard_s = 0.0
        self._lost: str | None = None
        """The server's answer when it had no consumer for us."""
        self._failed_openings = 0
        self._not_reopened = OutageLog(log, "consumer_not_reopened")
        self._reopen_at_s = 0.0
        """The earliest time of the next attempt to reopen (monotonic s)."""
        self._inbox = client.new_inbox()
        self._probe_subject = probe_subject(namespace)
        self._subscription: Subscription | None = None
        self._request_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream_name(namespace)}.{DURABLE}"

    @property
    def ready(self) -> bool:
        """Whether NATS is there and has, as far as is known, the stream and the consumer."""
        return self._client.is_connected and self._lost is None

    async def open(self, stop: asyncio.Event | None = None) -> None:
        """Create the stream and the consumer where they are missing, and listen. Wait for them until `stop` is set.

        Raises ServerUnreachable then, ServerError if the stream cannot be made."""
        await await_stream(self._client, self._namespace, self._replicas, stop, consumer=True)
        self._subscription = await self._client.subscribe(
            self._inbox, cb=self._take, pending_msgs_limit=-1, pending_bytes_limit=-1
        )

    async def _ensure_consumer(self) -> None:
        await ensure_stream(self._client, self._namespace, self._replicas)
        await ensure_consumer(self._client, self._namespace)

    async def _take(self, message: Msg) -> None:
        self._heard_s = time.monotonic()
        self._arrived.set()
        if not message.reply:
            self._take_status(message.headers or {})
            return
        self._outstanding = max(0, self._outstanding - 1)
        self._failed_openings = 0
        if message.subject == self._probe_subject:
            await self._answer([message], b"+ACK")
            return
        self._buffer.append(message)
        self._buffered_bytes += len(message.data)
        if not self._close_waits and not message.subject.startswith(self._forming):
            self._close_waits = True
            self._close_arrived.set()

    def _take_status(self, headers: Mapping[str, str]) -> None:
        """Note the end of a request, and how many of its messages were not delivered."""
        unserved = headers.get("Nats-Pending-Messages", "")
        self._outstanding = max(0, self._outstanding - int(unserved)) if unserved.isdigit() else 0
        status, description = headers.get("Status", ""), headers.get("Description", "")
        if _is_usual(status, description):
            self._failed_openings = 0
        elif self._lost is None:
            self._lost = f"{status} {description}".strip()
            log.warning("consumer_lost", stream=stream_name(self._namespace), said=self._lost)

    async def _reopen(self) -> None:
        """Create stream and consumer again if they are missing, unless the last attempt was too recent."""
        if time.monotonic() < self._reopen_at_s or not self._client.is_connected:
            return
        # counts as failed until the consumer answers, so that one that keeps getting lost is not
        # created in a busy loop
        self._failed_openings += 1
        try:
            await self._ensure_consumer()
        except (Error, TimeoutError) as error:
            self._not_reopened.failed(error)
        else:
            self._not_reopened.over()
            log.info("consumer_reopened", stream=stream_name(self._namespace), lost=self._lost)
            self._lost = None
            self._outstanding = 0
        self._reopen_at_s = time.monotonic() + _BACKOFF.wait_s(self._failed_openings)

    async def _ask(self) -> None:
        if self._client.is_closed:
            raise ServerUnreachable(closed_by_server(self._client))
        if self._lost is not None:
            await self._reopen()
        if not self.ready or self._buffered_bytes >= _REQUEST_BYTES:
            return
        if self._outstanding and time.monotonic() - self._heard_s > 2 * _EXPIRES_S:
            # no message and no status since: the request was lost with a connection or a leader
            self._outstanding = 0
        wanted = self._capacity - len(self._buffer) - self._outstanding
        if wanted < self._capacity // 2:
            return
        self._outstanding += wanted
        self._heard_s = max(self._heard_s, time.monotonic())
        # room for the largest message that NATS takes: one that did not fit would end every request
        max_bytes = _REQUEST_BYTES + self._client.max_payload
        request = {"batch": wanted, "expires": int(_EXPIRES_S * 1e9), "max_bytes": max_bytes}
        await self._client.publish(self._request_subject, orjson.dumps(request), reply=self._inbox)

    async def batch(self, max_messages: int, max_bytes: int, patience_s: float = 0.5) -> list[Msg]:
        """Return up to `max_messages`, or the first that reach `max_bytes`; empty after `patience_s` without one.

        Waits for more after the first as long as `Patience` says and the stream has more: a single message is
        soon on its way, and the closes of a market are one batch. If it is behind by more than a batch, it waits
        longer, for a full batch: large frames catch up faster. Raises ServerUnreachable if the connection is closed
        for good: nats-py reconnects only after a connection error.
        """
        await self._ask()
        if not self._buffer:
            await self._wait(patience_s)
        if not self._buffer:
            return []
        await self._gather(max_messages, max_bytes)
        taken: list[Msg] = []
        size = 0
        while self._buffer and len(taken) < max_messages and size < max_bytes:
            taken.append(self._buffer.popleft())
            size += len(taken[-1].data)
        self._buffered_bytes -= size
        self._close_waits = self._close_waits and bool(self._buffer)
        await self._ask()
        return taken

    async def _gather(self, max_messages: int, max_bytes: int) -> None:
        patience = self._patience
        patience.begin(time.monotonic())
        while len(self._buffer) < max_messages and self._buffered_bytes < max_bytes:
            before = len(self._buffer)
            await self._pause(patience)
            now_s = time.monotonic()
            pending = self._buffer[-1].metadata.num_pending
            came = len(self._buffer) > before
            if came:
                patience.heard(now_s)
            behind = came and pending >= max_messages
            if patience.used_up(now_s, _PATIENCE_BEHIND if behind else 1):
                return
            if not came and not pending:
                return

    async def _pause(self, patience: Patience) -> None:
        """Wait before the next look at the buffer; the first close ends the wait for forming candles."""
        if self._close_waits:
            patience.has_close(time.monotonic())
            await asyncio.sleep(patience.pause_s)
        else:
            await _waited(self._close_arrived, patience.pause_s)

    async def _wait(self, timeout_s: float) -> None:
        await _waited(self._arrived, timeout_s)

    async def acknowledge(self, messages: Sequence[Msg]) -> None:
        await self._answer(messages, b"+ACK")

    async def _answer(self, messages: Sequence[Msg], answer: bytes) -> None:
        """Answer NATS. If it was down too long for the answer, it sends the messages again, which is harmless."""
        try:
            for message in messages:
                await self._client.publish(message.reply, answer)
        except OutboundBufferLimitError:
            log.warning("not_acknowledged", messages=len(messages), policy="NATS sends them again")

    async def release(self) -> None:
        """Return messages that were delivered and not taken, so that another bridge gets them at once."""
        # first, or our own request would receive them again
        if self._subscription:
            await self._subscription.unsubscribe()
        given_back = list(self._buffer)
        self._buffer.clear()
        self._buffered_bytes, self._close_waits = 0, False
        await self._answer(given_back, b"-NAK")
        await self._client.flush()


async def _waited(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for the event to be set from now on, at most for `timeout_s`."""
    event.clear()
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)
