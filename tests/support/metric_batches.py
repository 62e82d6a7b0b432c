"""Test batches of metrics in the form that the calculator sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from app.market.fields import METRIC_COLUMNS
from app.market.metrics import MetricsBatch
from app.settings import Settings
from app.wire.frames import FrameInfo, encode_metrics
from app.wire.kafka import kafka_producer
from app.wire.market_minutes import minute_records
from app.wire.topics import Topics, shard_of

Row = tuple[str, int, Mapping[str, float]]
"""Symbol, open time in UTC ms, and the columns that are not null."""


def metrics_batch(rows: Sequence[Row], columns: tuple[str, ...] = METRIC_COLUMNS) -> MetricsBatch:
    symbols = tuple(dict.fromkeys(symbol for symbol, _, _ in rows))
    values = np.full((len(rows), len(columns)), np.nan)
    for i, (_, _, known) in enumerate(rows):
        for name, value in known.items():
            values[i, columns.index(name)] = value
    open_time_ms = np.array([time_ms for _, time_ms, _ in rows], dtype=np.int64)
    return MetricsBatch(
        symbols=symbols,
        symbol_index=np.array([symbols.index(symbol) for symbol, _, _ in rows], dtype=np.int32),
        open_time_ms=open_time_ms,
        closed=np.ones(len(rows), dtype=np.bool_),
        event_ts_ms=open_time_ms + 60_000,
        ingest_ts_ms=open_time_ms + 60_100,
        values=values,
        columns=columns,
    )


async def publish_metrics(
    settings: Settings, rows: Sequence[Row], stage_ts_ms: Mapping[str, int] | None = None
) -> None:
    """Publish one frame per row to the partition of its symbol; each is acknowledged before the next."""
    for row in rows:
        await publish_frame(settings, metrics_batch([row]), stage_ts_ms)


async def publish_sealed_minute(settings: Settings, rows: Sequence[Row]) -> None:
    """Publish a minute with these rows as the role market seals it."""
    async with kafka_producer(settings.kafka()) as producer:
        for key, value in minute_records(metrics_batch(rows)):
            await producer.send_and_wait(Topics.of(settings.names()).market, value, key=key, partition=0)


async def publish_frame(
    settings: Settings, batch: MetricsBatch, stage_ts_ms: Mapping[str, int] | None = None
) -> None:
    """Publish one frame with rows of one symbol, and wait for its acknowledgement."""
    async with kafka_producer(settings.kafka()) as producer:
        frame = encode_metrics(batch, FrameInfo(dict(stage_ts_ms or {})))
        partition = shard_of(batch.symbol_of(0), settings.partitions)
        await producer.send_and_wait(Topics.of(settings.names()).metrics, frame, partition=partition)
