"""Candles from NATS into frames of one shard each, and a dead letter for each message with invalid content."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from uuid import uuid4

import numpy as np
import structlog
from nats.aio.msg import Msg

from app.candles.batch import CandleBatch
from app.clock import Clock
from app.settings.access import Namespace
from app.telemetry import PipelineMetrics
from app.telemetry.tracing import recorder
from app.wire.dead_letters import DeadLetter
from app.wire.frames import FrameInfo, encode_candles
from app.wire.nats.candles import parse
from app.wire.topics import shard_of

STAGE = "bridge"
_SHARDS_KEPT = 16_384
"""Symbols whose shard is cached: more than one message of a megabyte can name."""
Frame = tuple[int, bytes]
"""(partition, encoded)"""

log = structlog.get_logger(STAGE)


@dataclass(frozen=True, slots=True)
class BridgeOptions:
    """A bridge's sources and the options of its frames."""

    namespace: Namespace
    partitions: int
    exchange: str
    """Exchange of candles that do not name one."""
    message_max_bytes: int
    """Larger messages are rejected."""
    frame_max_rows: int

    @property
    def batch_max_messages(self) -> int:
        return self.frame_max_rows * self.partitions


class Translation:
    """Makes frames of messages."""

    def __init__(self, options: BridgeOptions, clock: Clock, metrics: PipelineMetrics) -> None:
        self._options = options
        self._clock = clock
        self._metrics = metrics
        self._live = options.namespace.name("candles.live.")
        self._shard = lru_cache(_SHARDS_KEPT)(partial(shard_of, partitions=options.partitions))

    def frames(self, messages: Sequence[Msg]) -> tuple[list[Frame], list[DeadLetter]]:
        """Return (partition, frame) for all valid candles, and a dead letter for each message with invalid content."""
        began_s, now_ms = time.perf_counter(), self._clock.now_ms()
        parsed = parse(
            [message.data for message in messages],
            ingest_ts_ms=now_ms,
            max_bytes=self._options.message_max_bytes,
            exchange=self._options.exchange,
            live={index for index, message in enumerate(messages) if message.subject.startswith(self._live)},
        )
        letters = []
        for found in parsed.rejected:
            message = messages[found.index]
            original = found.original or message.data
            counts = {str(reason): count for reason, count in found.counts.items()}
            letters.append(DeadLetter(found.reason, found.message, message.subject, original, counts))
        if parsed.batch is None:
            return [], letters
        frames = []
        for shard, part in self._parts(parsed.batch):
            info = FrameInfo({STAGE: now_ms}, uuid4().hex)
            frames.append((shard, encode_candles(part, info)))
            self._note(info.frame_id, shard, len(part), began_s)
        self._metrics.frames.labels(stage=STAGE).inc(len(frames))
        self._metrics.rows.labels(stage=STAGE).inc(len(parsed.batch))
        return frames, letters

    def _note(self, frame_id: str, shard: int, rows: int, began_s: float) -> None:
        log.debug("frame_made", frame_id=frame_id, partition=shard, rows=rows)
        spans = recorder()
        if spans:
            duration_s = time.perf_counter() - began_s
            now_ms = self._clock.now_ms()
            spans.record(STAGE, frame_id, end_ms=now_ms, duration_s=duration_s, rows=rows, partition=shard)

    def _parts(self, batch: CandleBatch) -> Iterator[tuple[int, CandleBatch]]:
        """Yield parts of one shard each, of at most `frame_max_rows` rows."""
        most = self._options.frame_max_rows
        shard_of_symbol = np.array([self._shard(symbol) for symbol in batch.symbols], dtype=np.int32)
        shard_of_row = shard_of_symbol[batch.symbol_index]
        for shard in np.unique(shard_of_row).tolist():
            rows = np.flatnonzero(shard_of_row == shard)
            for start in range(0, len(rows), most):
                yield shard, batch.take(rows[start : start + most]).compact()
