"""From the stream of candles into a file, for as long as asked; a lost consumer is made anew where it was."""

from __future__ import annotations

import asyncio
import random
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
from app.ingress.pull import stream_name
from app.ingress.wire import parse
from app.recording.file import CandleFile
from app.settings import Settings

_BATCH: Final = 1_000
_WAIT_S: Final = 1.0
_API_TIMEOUT_S: Final = 5.0
_FORGOTTEN_AFTER_S: Final = 300.0
"""The server drops the consumer of a recorder that is gone."""
_FIRST_RETRY_S: Final = 0.2
_LONGEST_RETRY_S: Final = 5.0
log = structlog.get_logger("recorder")


@dataclass(slots=True)
class Recorded:
    """What has been seen so far."""

    candles: int = 0
    rejected: int = 0
    """Candles in messages that were not valid."""
    newest_ms: int = 0
    """Open time of the newest candle."""
    flushed_at_s: float = 0.0
    """Monotonic; 0 for not yet."""


class Recorder:
    """Reads the closed candles of the stream of `settings` through `client` into `file`."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        clock: Clock,
        file: CandleFile,
        *,
        flush_s: float,
        backlog: bool,
    ) -> None:
        """backlog: begin with what the stream still holds, not with what comes from now on."""
        self._jetstream: JetStreamContext = client.jetstream(timeout=_API_TIMEOUT_S)
        self._settings = settings
        self._clock = clock
        self._file = file
        self._flush_s = flush_s
        self._backlog = backlog
        self._next_sequence: int | None = None
        self.recorded = Recorded()

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None] | None = None) -> None:
        """Until `stop` is set; then, and however it ends, what was seen is in the file."""
        flushing = asyncio.create_task(self._flush_regularly(), name="flush")
        failures = 0
        try:
            while not stop.is_set():
                try:
                    await self._read(stop, on_ready)
                except (Error, TimeoutError, OSError) as error:
                    failures += 1
                    jitter = random.uniform(0.8, 1.2)  # noqa: S311  # reason: no secret
                    wait_s = min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2 ** min(failures, 10)) * jitter
                    log.warning("recording_interrupted", error=repr(error), again_in_s=round(wait_s, 2))
                    await _wait(stop, wait_s)
        finally:
            flushing.cancel()
            await asyncio.wait([flushing])
            await self._flush()

    async def _read(self, stop: asyncio.Event, on_ready: Callable[[], None] | None) -> None:
        subscription = await self._subscribe()
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
            filter_subjects=[self._settings.name("candles.1m.*"), self._settings.name("candles.batch.1m")],
            inactive_threshold=_FORGOTTEN_AFTER_S,
        )
        stream = stream_name(self._settings)
        if self._next_sequence is None and not self._backlog:
            # from here on, even if the consumer is lost before the first candle
            self._next_sequence = (await self._jetstream.stream_info(stream)).state.last_seq + 1
        consumer = await self._jetstream.add_consumer(stream, config)
        return await self._jetstream.pull_subscribe_bind(consumer=consumer.name, stream=stream)

    def _take(self, messages: list[Msg]) -> None:
        parsed = parse(
            [message.data for message in messages],
            ingest_ts_ms=self._clock.now_ms(),
            max_bytes=self._settings.message_max_bytes,
            exchange=self._settings.exchange,
        )
        self.recorded.rejected += len(parsed.rejected)
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


async def _wait(stop: asyncio.Event, at_most_s: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), at_most_s)
    except TimeoutError:
        return
