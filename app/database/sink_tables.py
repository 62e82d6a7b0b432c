"""What the sinks read from each topic and how they store it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from app.candles.batch import CandleBatch, concatenate
from app.database.copy import write_alerts, write_candles, write_metric_rows
from app.database.metric_rows import MetricRows, concatenate_metric_rows, metric_rows
from app.database.stored_alert import parse_alert
from app.frames import FrameInfo, decode_candles, decode_metrics, is_bars
from app.topics import Topics


@dataclass(frozen=True, slots=True)
class Decoded:
    """One record. `content` is what `SinkTable.write` takes, None if there is nothing to store.

    rows: how many it stores. first_seen_ms: when the oldest of its data was first seen, None if unknown.
    """

    content: Any
    rows: int
    first_seen_ms: int | None
    name: str = ""
    """Of what it came from, for logs and traces: the id of a frame, or of an alert."""


@dataclass(frozen=True, slots=True)
class SinkTable:
    """A topic and the table it is written to.

    A batch is written at `max_rows` rows, or `linger_ms` after its first record, whichever comes first: large
    batches cost the database a third per row of what small ones cost, and only alerts are in a hurry.
    """

    stage: str
    topic: str
    name: str
    max_rows: int
    linger_ms: int
    fetch_wait_ms: int
    """How long the broker may hold a fetch that finds nothing. The embedded broker does not wake a held fetch
    when a record comes: it looks again after half of this time."""
    decode: Callable[[bytes, int], Decoded]
    """(value, offset) -> Decoded. Raises BadInput for a record that cannot be used."""
    write: Callable[[AsyncConnection, Sequence[Any]], Awaitable[int]]
    """Stores the contents in one transaction. Raises psycopg.Error, and then has stored nothing."""


def sink_tables(topics: Topics) -> tuple[SinkTable, ...]:
    return (
        SinkTable(
            stage="sinks-candles",
            topic=topics.candles,
            name="candles_1m",
            max_rows=20_000,
            linger_ms=400,
            fetch_wait_ms=200,
            decode=_closed_candles,
            write=_write_candles,
        ),
        SinkTable(
            stage="sinks-metrics",
            topic=topics.metrics,
            name="metrics_calculated",
            max_rows=10_000,
            linger_ms=400,
            fetch_wait_ms=200,
            decode=_closed_bars,
            write=_write_metrics,
        ),
        SinkTable(
            stage="sinks-alerts",
            topic=topics.alerts,
            name="alert_history",
            max_rows=2_000,
            linger_ms=5,
            fetch_wait_ms=20,
            decode=decoded_alert,
            write=write_alerts,
        ),
    )


def _closed_candles(data: bytes, _offset: int) -> Decoded:
    if is_bars(data):
        return Decoded(None, 0, None)
    batch, info = decode_candles(data)
    if not batch.closed.all():
        batch = batch.take(batch.closed)
    return _decoded(batch, batch, info)


def _closed_bars(data: bytes, _offset: int) -> Decoded:
    batch, info = decode_metrics(data)
    rows = metric_rows(batch)
    return _decoded(rows, batch, info) if len(rows) else Decoded(None, 0, None)


def _decoded(rows: CandleBatch | MetricRows, source: Any, info: FrameInfo) -> Decoded:
    if len(rows) == 0:
        return Decoded(None, 0, None)
    return Decoded(rows, len(rows), int(source.ingest_ts_ms[source.closed].min()), info.frame_id)


def decoded_alert(data: bytes, offset: int) -> Decoded:
    stored = parse_alert(data, offset)
    first_seen = stored.alert["timings"].get("ingest_ts_ms")
    return Decoded(stored, 1, first_seen if isinstance(first_seen, int) else None, stored.alert["id"])


async def _write_candles(connection: AsyncConnection, batches: Sequence[CandleBatch]) -> int:
    return await write_candles(connection, concatenate(batches))


async def _write_metrics(connection: AsyncConnection, parts: Sequence[MetricRows]) -> int:
    return await write_metric_rows(connection, concatenate_metric_rows(parts))
