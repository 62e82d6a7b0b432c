"""Publishes candles to JetStream: many messages in flight at once, each one acknowledged, lost ones sent again.

A publisher that waits for every acknowledgement reaches a few thousand candles a second. Here up to `window`
messages are unacknowledged; `publish` waits for room, `flush` for the last acknowledgement. Each message
carries a `Nats-Msg-Id` made of its content, so that sending it again is harmless.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypedDict
from zlib import crc32

import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from prometheus_client import CollectorRegistry

from app.candles.batch import CandleBatch
from app.candles.symbols import is_symbol
from app.errors import ServerError, ServerUnreachable
from app.library_internals import write_whole, writes_whole
from app.settings.access import Namespace, NatsAccess
from app.telemetry import NatsMetrics, nats_metrics
from app.wire.nats.render import render
from app.wire.nats.stream import await_stream, closed_by_server, connect
from app.wire.retry import Backoff, OutageLog

WINDOW: Final = 8_000
"""Most unacknowledged messages: the server drops messages beyond 10,000 that wait for a stream."""
_CHUNK: Final = 500
"""Messages handed to the connection in one write."""
_ACK_WAIT_S: Final = 5.0
_BACKOFF: Final = Backoff(0.2, _ACK_WAIT_S)
_MAX_REFUSALS: Final = 12
"""How often a server that answers may reject one message; with the delays between, about 30 s."""
_TEND_EVERY_S: Final = 0.1
_FORMING_HEADER: Final = "Nats-TTL: 15m\r\n"
"""Forming candles are of use until the next update; kept as long as closed ones they would fill disks."""
_HEADERS_MAX_BYTES: Final = 1_024
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
        self._unacknowledged: dict[int, bytes] = {}
        """Protocol text by message number: bytes, because the garbage collector need not look at them."""
        self._next_number = 0
        self._unanswered: deque[tuple[float, list[int]]] = deque()
        """When to resend the unacknowledged messages of a chunk (monotonic s), oldest first."""
        self._refusals: Counter[int] = Counter()
        self._retry_at_s: dict[int, float] = {}
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
        per_message = candles_per_message or self._candles_per_message
        await self._publish(
            self._commands(batch, per_message, candles_per_message or self._forming_per_message)
        )

    async def publish_unreadable(self, payload: bytes) -> None:
        """Pass on a source's invalid candle: the bridge sends it to the dead letters. It is cut to the largest message
        of NATS, which closes the connection for good on a larger one."""
        payload = payload[: self._client.max_payload - _HEADERS_MAX_BYTES]
        name = f"invalid-{crc32(payload):08x}"
        reply = f"{self._inbox}.{self._next_number}"
        subject = self._namespace.name("candles.live.1m.") + name
        await self._publish([_hpub(subject, reply, f"{name}-{len(payload)}", payload, _FORMING_HEADER)])

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

    def _commands(self, batch: CandleBatch, closed_per: int, forming_per: int) -> list[bytes]:
        if closed_per == forming_per == 1:
            return self._single_commands(batch, self._next_number)
        closed, forming = batch.take(batch.closed), batch.take(~batch.closed)
        commands = self._part_commands(closed, closed_per, "candles.batch.1m", "", self._next_number)
        number = self._next_number + len(commands)
        return commands + self._part_commands(
            forming, forming_per, "candles.live.batch.1m", _FORMING_HEADER, number
        )

    def _part_commands(
        self, part: CandleBatch, size: int, plain_subject: str, headers: str, number: int
    ) -> list[bytes]:
        """Return one message per `size` rows, which are all closed or all forming; numbered from `number` on."""
        if size == 1:
            return self._single_commands(part, number)
        subject = self._namespace.name(plain_subject)
        payloads = render(part)
        commands: list[bytes] = []
        for start in range(0, len(payloads), size):
            payload = b"[%b]" % b",".join(payloads[start : start + size])
            symbol = _in_protocol(part.symbol_of(start))
            first = f"{symbol}-{part.open_time_ms[start]}-{part.event_ts_ms[start]}"
            message_id = f"{first}-{len(payload)}-{crc32(payload):08x}"
            reply = f"{self._inbox}.{number + len(commands)}"
            commands.append(_hpub(subject, reply, message_id, payload, headers))
        return commands

    def _single_commands(self, batch: CandleBatch, first_number: int) -> list[bytes]:
        """Return one message per row: the protocol text `Client.publish` would write, at a third of its cost."""
        names = [_in_protocol(symbol) for symbol in batch.symbols]
        prefix = self._namespace.name("candles.live.1m."), self._namespace.name("candles.1m.")
        headers = _FORMING_HEADER, ""
        reply = f"{self._inbox}."
        columns = (batch.symbol_index, batch.closed, batch.open_time_ms, batch.event_ts_ms)
        rows = zip(*(column.tolist() for column in columns), render(batch), strict=True)
        commands = []
        for number, (symbol, closed, open_time_ms, event_ts_ms, payload) in enumerate(rows, first_number):
            name = names[symbol]
            # the checksum tells a correction from the candle that it corrects
            message_id = f"{name}-{open_time_ms}-{event_ts_ms}-{crc32(payload):08x}"
            subject = prefix[closed] + name
            commands.append(_hpub(subject, f"{reply}{number}", message_id, payload, headers[closed]))
        return commands

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
        self._unanswered.append((time.monotonic() + 2 * _ACK_WAIT_S, numbers))
        if not self._client.is_connected:
            return
        commands = [self._unacknowledged[number] for number in numbers]
        if _WHOLE_WRITES:
            await write_whole(self._client, b"".join(commands))
            return
        for command in commands:
            head, _, payload = command.partition(b"\r\n\r\n")
            line, _, *lines = head.decode().split("\r\n")
            _, subject, reply, *_ = line.split()
            headers = dict(header.split(": ", 1) for header in lines)
            await self._client.publish(subject, payload.removesuffix(b"\r\n"), reply=reply, headers=headers)

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
        if self._refusals:
            self._refusals.pop(number, None)
            self._retry_at_s.pop(number, None)
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
        self._refusals[number] += 1
        self._metrics.publish_errors.inc()
        hopeless = 400 <= error["code"] < 500 and error["code"] != _TOO_MANY_REQUESTS
        if hopeless or self._refusals[number] >= _MAX_REFUSALS:
            self._give_up(number, f"{error['description']} (code {error['code']})", hopeless=hopeless)
            return
        self._retry_at_s[number] = time.monotonic() + _BACKOFF.wait_s(self._refusals[number])

    def _give_up(self, number: int, said: str, *, hopeless: bool) -> None:
        subject = self._unacknowledged[number].split(b" ", 2)[1].decode()
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
                due = self._take_due(time.monotonic())
            else:
                reconnects = self._client.stats["reconnects"]
                self._unanswered.clear()
                due = list(self._unacknowledged)
            await self._send_again(due)

    def _take_due(self, now_s: float) -> list[int]:
        due = [number for number, retry_at_s in self._retry_at_s.items() if retry_at_s <= now_s]
        while self._unanswered and self._unanswered[0][0] <= now_s:
            _, numbers = self._unanswered.popleft()
            due += [number for number in numbers if number not in self._retry_at_s]
        return due

    async def _send_again(self, due: Iterable[int]) -> None:
        waiting = [number for number in due if number in self._unacknowledged]
        if waiting:
            self._outage.failed(TimeoutError("not confirmed"), messages=len(waiting))
        for start in range(0, len(waiting), self._chunk):
            # messages acknowledged while an earlier chunk was written are left out
            chunk = [
                number for number in waiting[start : start + self._chunk] if number in self._unacknowledged
            ]
            for number in chunk:
                self._retry_at_s.pop(number, None)
            self.counts.resent += len(chunk)
            await self._send(chunk)


def _in_protocol(symbol: str) -> str:
    """Return a symbol's name in subjects and message ids. An invalid symbol goes to a subject that no symbol has,
    from where the bridge sends its candle to the dead letters."""
    if is_symbol(symbol):
        return symbol
    return f"invalid-{crc32(symbol.encode()):08x}"


def _hpub(subject: str, reply: str, message_id: str, payload: bytes, headers: str) -> bytes:
    """Return the command that publishes a message. headers: further ones, each with its line end."""
    header = f"NATS/1.0\r\nNats-Msg-Id: {message_id}\r\n{headers}\r\n".encode()
    line = f"HPUB {subject} {reply} {len(header)} {len(header) + len(payload)}\r\n".encode()
    return b"%b%b%b\r\n" % (line, header, payload)


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
