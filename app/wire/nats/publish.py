"""Publishes candles to JetStream: many messages in flight at once, each one acknowledged, lost ones sent again.

A publisher that waits for every acknowledgement reaches a few thousand candles a second. Here up to `window`
messages are unacknowledged; `publish` waits for room, `flush` for the last acknowledgement. Each message
carries a `Nats-Msg-Id` made of its content, so that sending it again is harmless.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypedDict

import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from prometheus_client import CollectorRegistry

from app.candles.batch import CandleBatch
from app.errors import ServerError, ServerUnreachable
from app.library_internals import write_whole, writes_whole
from app.settings.access import Namespace, NatsAccess
from app.telemetry import NatsMetrics, nats_metrics
from app.wire.nats.commands import PublishCommands, arguments_of
from app.wire.nats.resends import Resends
from app.wire.nats.stream import await_stream, closed_by_server, connect
from app.wire.retry import OutageLog

WINDOW: Final = 8_000
"""Most unacknowledged messages: the server drops messages beyond 10,000 that wait for a stream."""
_CHUNK: Final = 500
"""Messages handed to the connection in one write."""
_MAX_REFUSALS: Final = 12
"""How often a server that answers may reject one message; with the delays between, about 30 s."""
_TEND_EVERY_S: Final = 0.1
_TOO_MANY_REQUESTS: Final = 429
_NO_STREAM: Final[_ApiError] = {"code": 503, "description": "no stream has this subject"}
_WHOLE_WRITES: Final = writes_whole(Client)
log = structlog.get_logger("publisher")


class _ApiError(TypedDict):
    """Why JetStream refused a message."""

    code: int
    description: str


@dataclass(slots=True)
class PublishCounts:
    acknowledged: int = 0
    """Messages that the stream has, duplicates included."""
    duplicates: int = 0
    """Messages that the stream had already."""
    resent: int = 0


class CandlePublisher:
    """Publishes batches from one task; use `candle_publisher` to get a connected one."""

    def __init__(
        self,
        client: Client,
        namespace: Namespace,
        *,
        window: int = WINDOW,
        candles_per_message: int = 1,
        forming_per_message: int | None = None,
        replicas: int = 1,
        metrics: NatsMetrics | None = None,
    ) -> None:
        """window: how many messages may be unacknowledged, at least one.

        candles_per_message: 1 gives each candle a message on its symbol's subject; a higher number puts that many into
        one message (a JSON array on `candles.batch.1m`, of forming candles on `candles.live.batch.1m`).
        forming_per_message: the same for forming candles, if different. replicas: copies of the
        stream. metrics: the counters of messages; None without a reader.
        """
        self._candles_per_message = candles_per_message
        self._forming_per_message = forming_per_message or candles_per_message
        self._client = client
        self._namespace = namespace
        self._replicas = replicas
        self._window = window
        self._chunk = min(_CHUNK, window)
        self._inbox = client.new_inbox()
        self._commands = PublishCommands(namespace, self._inbox)
        self._unacknowledged: dict[int, bytes] = {}
        """Protocol text by message number: bytes, because the garbage collector need not look at them."""
        self._next_number = 0
        self._resends = Resends()
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self._failure: ServerError | None = None
        self._tending: asyncio.Task[None] | None = None
        self.counts = PublishCounts()
        self._outage = OutageLog(log, "publish_again")
        self._metrics = metrics or nats_metrics(CollectorRegistry())

    @property
    def unacknowledged(self) -> int:
        """Messages that the stream has not confirmed yet; at most the window."""
        return len(self._unacknowledged)

    @property
    def position(self) -> tuple[int, int]:
        """(number of the next message, number of the first that the stream has not confirmed)."""
        return self._next_number, next(iter(self._unacknowledged), self._next_number)

    async def open(self, stop: asyncio.Event | None = None) -> None:
        """Wait for the stream until `stop` is set. Raises ServerUnreachable then, ServerError if it cannot be made."""
        await await_stream(self._client, self._namespace, self._replicas, stop)
        await self._client.subscribe(
            f"{self._inbox}.*", cb=self._take_answer, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        self._tending = asyncio.create_task(self._tend(), name="publisher-resends")

    async def close(self) -> None:
        """Stop sending again; call `flush` first if everything must have arrived."""
        if self._tending:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)

    async def publish(self, batch: CandleBatch, candles_per_message: int | None = None) -> None:
        """Wait until every candle of a batch is sent or has a place in the window.

        candles_per_message: for this batch, if different. Raises ServerError if a message, of this batch or an earlier
        one, cannot be delivered.
        """
        await self._publish(
            self._commands.of_batch(
                batch,
                candles_per_message or self._candles_per_message,
                candles_per_message or self._forming_per_message,
                self._next_number,
            )
        )

    async def publish_unreadable(self, payload: bytes) -> None:
        """Pass on a source's invalid candle: the bridge sends it to the dead letters. It is cut to the largest message
        of NATS."""
        command = self._commands.of_unreadable(payload, self._client.max_payload, self._next_number)
        await self._publish([command])

    async def _publish(self, commands: list[bytes]) -> None:
        """Write commands, which must be numbered from the next number on."""
        first = self._next_number
        self._next_number += len(commands)
        for start in range(0, len(commands), self._chunk):
            await self._wait_for_room()
            chunk = dict(enumerate(commands[start : start + self._chunk], first + start))
            self._unacknowledged |= chunk
            await self._send(list(chunk))

    async def flush(self) -> None:
        """Wait until the stream has acknowledged everything. Raises ServerError if a message cannot be delivered."""
        while self._unacknowledged and not self._failure:
            self._idle.clear()
            await self._idle.wait()
        self._raise_failure()

    async def _wait_for_room(self) -> None:
        while len(self._unacknowledged) > self._window - self._chunk and not self._failure:
            self._room.clear()
            await self._room.wait()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure:
            raise self._failure

    async def _send(self, numbers: list[int]) -> None:
        """Send messages, but not while the connection is down: `_tend` sends them when it is back."""
        self._resends.sent(numbers, time.monotonic())
        if not self._client.is_connected:
            return
        commands = [self._unacknowledged[number] for number in numbers]
        if _WHOLE_WRITES:
            await write_whole(self._client, b"".join(commands))
            return
        for command in commands:
            subject, payload, reply, headers = arguments_of(command)
            await self._client.publish(subject, payload, reply=reply, headers=headers)

    async def _take_answer(self, answer: Msg) -> None:
        number = int(answer.subject[len(self._inbox) + 1 :])
        if b'"error"' in answer.data or not answer.data:
            self._refused(number, answer)
            return
        if self._unacknowledged.pop(number, None) is None:
            return
        self.counts.acknowledged += 1
        self._metrics.published.inc()
        if b'"duplicate"' in answer.data:
            self.counts.duplicates += 1
        self._resends.confirmed(number)
        left = len(self._unacknowledged)
        if left <= self._window - self._chunk:
            self._room.set()
        if not left:
            self._outage.over()
            self._idle.set()

    def _refused(self, number: int, answer: Msg) -> None:
        """Try again later, or give up if that cannot help. An answer without data: no stream has this subject."""
        if number not in self._unacknowledged:
            return
        error: _ApiError = orjson.loads(answer.data)["error"] if answer.data else _NO_STREAM
        self._metrics.publish_errors.inc()
        refusals = self._resends.refused(number)
        hopeless = 400 <= error["code"] < 500 and error["code"] != _TOO_MANY_REQUESTS
        if hopeless or refusals >= _MAX_REFUSALS:
            self._give_up(number, f"{error['description']} (code {error['code']})", hopeless=hopeless)
            return
        self._resends.retry(number, time.monotonic())

    def _give_up(self, number: int, said: str, *, hopeless: bool) -> None:
        subject = arguments_of(self._unacknowledged[number])[0]
        log.error("publish_refused", subject=subject, said=said)
        if hopeless:
            self._fail(ServerError(f"JetStream rejects a candle on {subject}: {said}"))
            return
        self._fail(
            ServerUnreachable(
                f"JetStream does not accept candles on {subject}: {said}; "
                "check the disk of the NATS server and the limits of its stream"
            )
        )

    def _fail(self, failure: ServerError) -> None:
        """Report an error to all publishers and waiters."""
        self._failure = failure
        self._room.set()
        self._idle.set()

    async def _tend(self) -> None:
        """Resend messages that were rejected for now, not answered in time, or lost with a connection, until the
        connection is closed for good."""
        reconnects = self._client.stats["reconnects"]
        while True:
            await asyncio.sleep(_TEND_EVERY_S)
            if self._client.is_closed:
                self._fail(ServerUnreachable(closed_by_server(self._client)))
                return
            if not self._client.is_connected:
                continue
            if self._client.stats["reconnects"] == reconnects:
                due = self._resends.take_due(time.monotonic())
            else:
                reconnects = self._client.stats["reconnects"]
                self._resends.connection_lost()
                due = list(self._unacknowledged)
            await self._send_again(due)

    async def _send_again(self, due: Iterable[int]) -> None:
        waiting = [number for number in due if number in self._unacknowledged]
        if waiting:
            self._outage.failed(TimeoutError("not confirmed"), messages=len(waiting))
        for start in range(0, len(waiting), self._chunk):
            # messages acknowledged while an earlier chunk was written are left out
            chunk = [
                number for number in waiting[start : start + self._chunk] if number in self._unacknowledged
            ]
            self.counts.resent += len(chunk)
            await self._send(chunk)


@asynccontextmanager
async def candle_publisher(
    nats: NatsAccess,
    name: str,
    candles_per_message: int = 1,
    forming_per_message: int | None = None,
    stop: asyncio.Event | None = None,
    metrics: NatsMetrics | None = None,
) -> AsyncIterator[CandlePublisher]:
    """Yield a connected publisher with its stream; `name` is how the server lists the connection.

    It waits for the stream until `stop` is set. Raises ServerUnreachable then and if the first connection fails,
    ServerError if the stream cannot be made. Leaving does not wait for acknowledgements.
    """
    client = await connect(nats.url, name)
    try:
        publisher = CandlePublisher(
            client,
            nats.namespace,
            candles_per_message=candles_per_message,
            forming_per_message=forming_per_message,
            replicas=nats.replicas,
            metrics=metrics,
        )
        await publisher.open(stop)
        try:
            yield publisher
        finally:
            await publisher.close()
    finally:
        await client.close()
