"""The sinks' input topics and how each is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from app.candles.batch import CandleBatch, concatenate
from app.database.candles.bar_tables import BAR_TABLE_OF
from app.rules.alert import Alert
from app.sinks.copy import write_alerts, write_candles, write_metric_rows
from app.sinks.exchange_bars import write_bars
from app.sinks.metric_rows import MetricRows, concatenate_metric_rows, metric_rows
from app.wire.frames import FrameInfo, decode_bars, decode_candles, decode_metrics, is_bars
from app.wire.topics import Topics


@dataclass(frozen=True, slots=True)
class Decoded:
    """One record. `content` is the input of `SinkTable.write`, None if the record has no rows to store.

    rows: how many it stores. first_seen_ms: when the oldest of its data was first seen, None if unknown.
    """

    content: Any
    rows: int
    first_seen_ms: int | None
    name: str = ""
    """The source's id, for logs and traces: of a frame, or of an alert."""
    frame: FrameInfo | None = None
    """Of a frame: its info, with the counts of rejected rows."""


@dataclass(frozen=True, slots=True)
class Bars:
    """The exchange's own bars of a longer timeframe."""

    timeframe: str
    bars: CandleBatch


@dataclass(frozen=True, slots=True)
class SinkTable:
    """A topic and the table it is written to.

    A batch is written at `max_rows` rows, or `linger_ms` after its first record, whichever comes first: a row in a
    large batch costs the database a third of one in a small batch, and only alerts are urgent.
    """

    stage: str
    topic: str
    name: str
    max_rows: int
    linger_ms: int
    decode: Callable[[bytes, int], Decoded]
    """(value, offset) -> Decoded. Raises BadInput for a record that cannot be used."""
    write: Callable[[AsyncConnection, Sequence[Any]], Awaitable[int]]
    """Store the contents in one transaction. Raises psycopg.Error, and then has stored no row."""


def sink_tables(topics: Topics) -> tuple[SinkTable, ...]:
    return (
        SinkTable(
            stage="sinks-candles",
            topic=topics.candles,
            name="candles_1m",
            max_rows=20_000,
            linger_ms=400,
            decode=_closed_candles,
            write=_write_candles,
        ),
        SinkTable(
            stage="sinks-metrics",
            topic=topics.metrics,
            name="metrics_calculated",
            max_rows=10_000,
            linger_ms=400,
            decode=_closed_bars,
            write=_write_metrics,
        ),
        SinkTable(
            stage="sinks-alerts",
            topic=topics.alerts,
            name="alert_history",
            max_rows=2_000,
            linger_ms=5,
            decode=decoded_alert,
            write=write_alerts,
        ),
    )


def _closed_candles(data: bytes, _offset: int) -> Decoded:
    if is_bars(data):
        timeframe, bars, info = decode_bars(data)
        kept = timeframe in BAR_TABLE_OF and len(bars) > 0
        return Decoded(Bars(timeframe, bars) if kept else None, 0, None, info.frame_id, info)
    batch, info = decode_candles(data)
    if not batch.closed.all():
        batch = batch.take(batch.closed)
    return _decoded(batch, batch, info)


def _closed_bars(data: bytes, _offset: int) -> Decoded:
    batch, info = decode_metrics(data)
    return _decoded(metric_rows(batch), batch, info)


def _decoded(rows: CandleBatch | MetricRows, source: Any, info: FrameInfo) -> Decoded:
    if len(rows) == 0:
        return Decoded(None, 0, None, frame=info)
    return Decoded(rows, len(rows), int(source.ingest_ts_ms[source.closed].min()), info.frame_id, info)


def decoded_alert(data: bytes, offset: int) -> Decoded:
    alert = Alert.decode(data, offset)
    return Decoded(alert, 1, alert.timings.ingest_ts_ms, alert.id)


async def _write_candles(connection: AsyncConnection, contents: Sequence[CandleBatch | Bars]) -> int:
    batches = [one for one in contents if isinstance(one, CandleBatch)]
    async with connection.transaction():
        stored = await write_candles(connection, concatenate(batches)) if batches else 0
        for one in contents:
            if isinstance(one, Bars):
                await write_bars(connection, one.timeframe, one.bars)
    return stored


async def _write_metrics(connection: AsyncConnection, parts: Sequence[MetricRows]) -> int:
    return await write_metric_rows(connection, concatenate_metric_rows(parts))
