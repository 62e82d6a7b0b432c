"""Record the stream of candles into a file; a lost consumer is created again at its position."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from app.clock import Clock
from app.process.tasks import ended
from app.recording.file import CandleFile
from app.settings.access import Namespace
from app.wire.faults import time_heals
from app.wire.nats.candles import parse
from app.wire.nats.stream import stream_name
from app.wire.retry import OutageLog, retried

_BATCH: Final = 1_000
_WAIT_S: Final = 1.0
_API_TIMEOUT_S: Final = 5.0
_FORGOTTEN_AFTER_S: Final = 300.0
"""After this time the server drops the consumer of a recorder that is gone."""
log = structlog.get_logger("recorder")


@dataclass(slots=True)
class Recorded:
    """The recorded state so far."""

    candles: int = 0
    rejected: int = 0
    """Candles in messages that were not valid."""
    newest_ms: int = 0
    """Open time of the newest candle."""
    flushed_at_s: float = 0.0
    """Monotonic; 0 for not yet."""


class Recorder:
    """Reads the closed candles of the namespace's stream through `client` into `file`."""

    def __init__(
        self,
        client: Client,
        namespace: Namespace,
        clock: Clock,
        file: CandleFile,
        *,
        exchange: str,
        message_max_bytes: int,
        flush_s: float,
        backlog: bool,
    ) -> None:
        """exchange: the exchange of candles that name none. message_max_bytes: larger messages are not valid. backlog:
        begin with the stored messages of the stream, not with new ones."""
        self._jetstream: JetStreamContext = client.jetstream(timeout=_API_TIMEOUT_S)
        self._namespace = namespace
        self._exchange = exchange
        self._message_max_bytes = message_max_bytes
        self._clock = clock
        self._file = file
        self._flush_s = flush_s
        self._backlog = backlog
        self._next_sequence: int | None = None
        self.recorded = Recorded()
        self._outage = OutageLog(log, "recording_interrupted")

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None] | None = None) -> None:
        """Run until `stop` is set; however it ends, all seen candles are in the file."""
        flushing = asyncio.create_task(self._flush_regularly(), name="flush")
        try:
            await retried(lambda: self._read(stop, on_ready), self._outage, stop=stop)
        except Exception as error:
            if not (stop.is_set() and time_heals(error)):
                raise
        finally:
            await ended(flushing)
            await self._flush()

    async def _read(self, stop: asyncio.Event, on_ready: Callable[[], None] | None) -> None:
        subscription = await self._subscribe()
        self._outage.over()
        if on_ready is not None:
            on_ready()
        try:
            while not stop.is_set():
                messages: list[Msg] = []
                with suppress(TimeoutError):
                    messages = await subscription.fetch(_BATCH, timeout=_WAIT_S)
                if messages:
                    self._take(messages)
                else:
                    # nothing new, or no consumer any more: asking for it tells the two apart
                    await subscription.consumer_info()
        finally:
            # a server that cannot be reached drops the consumer by itself
            with suppress(Error, TimeoutError, OSError):
                await subscription.unsubscribe()

    async def _subscribe(self) -> Any:
        policy, start = DeliverPolicy.ALL if self._backlog else DeliverPolicy.NEW, None
        if self._next_sequence is not None:
            policy, start = DeliverPolicy.BY_START_SEQUENCE, self._next_sequence
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=policy,
            opt_start_seq=start,
            filter_subjects=[self._namespace.name("candles.1m.*"), self._namespace.name("candles.batch.1m")],
            inactive_threshold=_FORGOTTEN_AFTER_S,
        )
        stream = stream_name(self._namespace)
        if self._next_sequence is None and not self._backlog:
            # from here on, even if the consumer is lost before the first candle
            self._next_sequence = (await self._jetstream.stream_info(stream)).state.last_seq + 1
        consumer = await self._jetstream.add_consumer(stream, config)
        return await self._jetstream.pull_subscribe_bind(consumer=consumer.name, stream=stream)

    def _take(self, messages: list[Msg]) -> None:
        parsed = parse(
            [message.data for message in messages],
            ingest_ts_ms=self._clock.now_ms(),
            max_bytes=self._message_max_bytes,
            exchange=self._exchange,
        )
        self.recorded.rejected += sum(message.count for message in parsed.rejected)
        if parsed.batch is not None:
            batch = parsed.batch.take(parsed.batch.closed).compact()
            if len(batch):
                self._file.add(batch)
                self.recorded.candles += len(batch)
                self.recorded.newest_ms = max(self.recorded.newest_ms, int(batch.open_time_ms.max()))
        self._next_sequence = messages[-1].metadata.sequence.stream + 1

    async def _flush_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._flush_s)
            try:
                await self._flush()
            except OSError as error:
                # nothing is lost yet: the next flush takes these candles too
                log.error("recording_not_written", file=str(self._file.path), error=str(error))

    async def _flush(self) -> None:
        if await asyncio.to_thread(self._file.flush):
            self.recorded.flushed_at_s = time.monotonic()
