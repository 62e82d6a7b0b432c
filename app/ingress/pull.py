"""The shared durable JetStream pull consumer, read in large batches.

nats-py's own `fetch` costs about 35 µs of CPU a message, most of it in a timer per message; asking for
batches on one inbox and taking what arrives costs about half of that.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence

import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error, NoServersError, OutboundBufferLimitError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from app.errors import ServerUnreachable
from app.ingress.patience import Patience
from app.settings import Settings
from app.telemetry import nats_metrics

_CONNECT_TIMEOUT_S = 5.0
_EXPIRES_S = 5.0
_REQUEST_BYTES = 16 * 1024 * 1024
_KEPT_S = 48 * 3600
_ACK_WAIT_S = 30.0
_PATIENCE_BEHIND = 20
"""Times the longest delay."""
_API_TIMEOUT_S = 2.0
_FIRST_RETRY_S = 0.2
_LONGEST_RETRY_S = 5.0
_PENDING_EVERY_S = 5.0
DURABLE = "bridge"
log = structlog.get_logger("bridge")


def stream_name(settings: Settings) -> str:
    """`CANDLES`, or `NS_CANDLES` in a namespace."""
    return settings.name("candles").replace(".", "_").upper()


async def connect(settings: Settings, name: str) -> Client:
    """A connection that reconnects for ever. Raises ServerUnreachable if the first attempt fails."""
    return await connect_to(settings.server_urls().nats, name)


async def connect_to(url: str, name: str) -> Client:
    """The same, to the server at `url`, for those who need no other."""
    client = Client()
    try:
        # with reconnects without end the first connection would be tried without end too
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            await client.connect(
                url,
                name=name,
                max_reconnect_attempts=-1,
                reconnect_time_wait=1,
                connect_timeout=3,
                allow_reconnect=True,
                error_cb=_ignore_until_reconnected,
            )
    except (NoServersError, OSError, TimeoutError) as error:
        await client.close()
        raise ServerUnreachable(
            f"NATS does not answer: {error!r}; "
            "set SCREENER_NATS_URL to nats://host:port of a server with JetStream"
        ) from error
    return client


def closed_by_server(client: Client) -> str:
    """What to say of a connection that will not be opened again: the server refused it, or what was sent on it."""
    return f"NATS closed the connection for good: {client.last_error!r}; see the log of its server"


async def _ignore_until_reconnected(error: Exception) -> None:
    """nats-py reports every failed attempt here; the connection's state is what health shows."""


async def ensure_stream(client: Client, settings: Settings) -> None:
    """Creates the stream if it is missing. An existing one keeps its limits, but learns to take
    messages that carry their own time to live."""
    jetstream = client.jetstream(timeout=_API_TIMEOUT_S)
    try:
        config = (await jetstream.stream_info(stream_name(settings))).config
    except NotFoundError:
        # by age only: any limit on numbers or bytes would drop closed candles that the bridge has not read
        await jetstream.add_stream(
            StreamConfig(
                name=stream_name(settings),
                subjects=[settings.name("candles.>")],
                storage=StorageType.FILE,
                retention=RetentionPolicy.LIMITS,
                max_age=_KEPT_S,
                allow_msg_ttl=True,
                duplicate_window=120,
            )
        )
    else:
        if not config.allow_msg_ttl:
            await jetstream.update_stream(config, allow_msg_ttl=True)


async def note_pending(client: Client, settings: Settings) -> None:
    """Asks every few seconds how much the bridges have yet to deal with; never returns, ends by cancellation."""
    jetstream = client.jetstream(timeout=_API_TIMEOUT_S)
    while True:
        try:
            consumer = await jetstream.consumer_info(stream_name(settings), DURABLE)
        except (Error, TimeoutError):
            # away, or being made anew: health shows that, and the gauge keeps what was known
            pass
        else:
            waiting = (consumer.num_pending or 0) + (consumer.num_ack_pending or 0)
            nats_metrics().pending.set(waiting)
        await asyncio.sleep(_PENDING_EVERY_S)


def _is_usual(status: str, description: str) -> bool:
    """Whether a request ended because it was old, there were no messages, or they had the size asked for. Any
    other end (503 no responders, 409 Consumer Deleted...) calls for a look at stream and consumer."""
    return (
        status == "408"
        or (status == "404" and description == "No Messages")
        or (status == "409" and "MaxBytes" in description)
    )


class CandlePull:
    """Batches of messages of the durable consumer; any number of processes may share it.

    At most `capacity` messages are asked for and not yet taken, and of them 16 MB and a message a request; with that
    much waiting there is none. So large messages take twice that in memory, however many the stream has.
    """

    def __init__(self, client: Client, settings: Settings, capacity: int) -> None:
        self._patience = Patience(settings.frame_max_delay_ms / 1000)
        self._client = client
        self._settings = settings
        self._capacity = capacity
        self._buffer: deque[Msg] = deque()
        self._buffered_bytes = 0
        self._arrived = asyncio.Event()
        self._outstanding = 0
        self._heard_s = 0.0
        self._lost: str | None = None
        """What the server said when it had no consumer for us."""
        self._failed_openings = 0
        self._reopen_at_s = 0.0
        """Not before then (monotonic s)."""
        self._inbox = client.new_inbox()
        self._subscription: Subscription | None = None
        self._request_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream_name(settings)}.{DURABLE}"

    @property
    def ready(self) -> bool:
        """Whether NATS is there and has, as far as is known, the stream and the consumer."""
        return self._client.is_connected and self._lost is None

    async def open(self) -> None:
        """Creates the stream and the consumer where they are missing, and listens."""
        await self._ensure_consumer()
        self._subscription = await self._client.subscribe(
            self._inbox, cb=self._take, pending_msgs_limit=-1, pending_bytes_limit=-1
        )

    async def _ensure_consumer(self) -> None:
        await ensure_stream(self._client, self._settings)
        await self._client.jetstream(timeout=_API_TIMEOUT_S).add_consumer(
            stream_name(self._settings),
            ConsumerConfig(
                durable_name=DURABLE,
                deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=_ACK_WAIT_S,
                max_deliver=-1,
                max_ack_pending=100_000,
            ),
        )

    async def _take(self, message: Msg) -> None:
        self._heard_s = time.monotonic()
        self._arrived.set()
        if not message.reply:
            self._take_status(message.headers or {})
            return
        self._outstanding = max(0, self._outstanding - 1)
        self._failed_openings = 0
        self._buffer.append(message)
        self._buffered_bytes += len(message.data)

    def _take_status(self, headers: Mapping[str, str]) -> None:
        """The request is over, with so many of its messages not delivered."""
        unserved = headers.get("Nats-Pending-Messages", "")
        self._outstanding = max(0, self._outstanding - int(unserved)) if unserved.isdigit() else 0
        status, description = headers.get("Status", ""), headers.get("Description", "")
        if _is_usual(status, description):
            self._failed_openings = 0
        elif self._lost is None:
            self._lost = f"{status} {description}".strip()
            log.warning("consumer_lost", stream=stream_name(self._settings), said=self._lost)

    async def _reopen(self) -> None:
        """Makes sure of stream and consumer again, unless the last attempt is too fresh."""
        if time.monotonic() < self._reopen_at_s or not self._client.is_connected:
            return
        delay_s = min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(self._failed_openings, 10))
        # counts as failed until the consumer is heard of, so that one that is lost again and again is not
        # created in a busy loop
        self._failed_openings += 1
        try:
            await self._ensure_consumer()
        except (Error, TimeoutError) as error:
            log.warning("consumer_not_reopened", attempt=self._failed_openings, error=repr(error))
        else:
            log.info("consumer_reopened", stream=stream_name(self._settings), lost=self._lost)
            self._lost = None
            self._outstanding = 0
        self._reopen_at_s = time.monotonic() + delay_s * random.uniform(0.5, 1.0)  # noqa: S311

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
        """Up to `max_messages`, and the first that reach `max_bytes`; empty after `patience_s` without one.
        Waits for more after the first as long as `Patience` says and the stream has more: a single message is
        soon on its way, and the closes of a market are one batch. Behind by more than a batch it waits longer,
        for a full one: then large frames are what catches up. Raises ServerUnreachable if the connection is closed for
        good: nats-py reconnects only after what it takes for an accident."""
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
        await self._ask()
        return taken

    async def _gather(self, max_messages: int, max_bytes: int) -> None:
        patience = self._patience
        patience.begin(time.monotonic())
        while len(self._buffer) < max_messages and self._buffered_bytes < max_bytes:
            before = len(self._buffer)
            await asyncio.sleep(patience.pause_s)
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

    async def _wait(self, timeout_s: float) -> None:
        self._arrived.clear()
        try:
            await asyncio.wait_for(self._arrived.wait(), timeout_s)
        except TimeoutError:
            return

    async def acknowledge(self, messages: Sequence[Msg]) -> None:
        await self._answer(messages, b"+ACK")

    async def _answer(self, messages: Sequence[Msg], answer: bytes) -> None:
        """What NATS has been away too long to be told of comes again, which is harmless."""
        try:
            for message in messages:
                await self._client.publish(message.reply, answer)
        except OutboundBufferLimitError:
            log.warning("not_acknowledged", messages=len(messages), policy="they come again")

    async def release(self) -> None:
        """Gives back what was delivered and not taken, so that another bridge has it at once."""
        # first, or our own request would be answered with them
        if self._subscription:
            await self._subscription.unsubscribe()
        given_back = list(self._buffer)
        self._buffer.clear()
        self._buffered_bytes = 0
        await self._answer(given_back, b"-NAK")
        await self._client.flush()
