"""Batched, idempotent writes of candles, metrics and alerts.

New rows are copied straight into their table: that costs PostgreSQL half as much as a staging table and an
upsert. Rows that are there already (a batch delivered again, a correction) would stop the COPY: a batch
whose oldest row exists goes to a temporary table and is upserted from there, and so does one whose COPY met
an existing row after all. Either way the last of several rows of one key in a batch wins, and a row that is
equal to the stored one is not written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString

import numpy as np
from psycopg import AsyncConnection, sql
from psycopg.errors import UniqueViolation

from app.candles.batch import CandleBatch
from app.database.binary_format import (
    FloatColumns,
    IntColumn,
    TextColumn,
    TimeColumn,
    copy_stream,
    last_of_each,
)
from app.database.named_queries import named_queries
from app.market.metrics import MetricsBatch
from app.rules.alert import Alert
from app.sinks.metric_rows import TIMEFRAME_NAMES, VALUE_COLUMNS, MetricRows, metric_rows
from app.sinks.rollups import roll_up
from app.times import utc

_QUERIES = named_queries("writes.sql")


@dataclass(frozen=True, slots=True)
class CopyTable:
    """A table to copy into; `columns` are its key and value columns in the order of the stream."""

    name: str
    key: tuple[str, ...]
    values: tuple[str, ...]
    exists: LiteralString
    """Statement that tells whether the row of a key is stored."""

    @property
    def columns(self) -> tuple[str, ...]:
        return self.key + self.values

    def statement(self, name: str, table: str | None = None) -> sql.Composed:
        return sql.SQL(_QUERIES[name]).format(
            table=sql.Identifier(table or self.name),
            staging=sql.Identifier(f"staged_{self.name}"),
            columns=_names(self.columns),
            key=_names(self.key),
            values=_names(self.values),
            old_values=_names(self.values, "old"),
            new_values=_names(self.values, "excluded"),
        )


def _names(columns: Sequence[str], *table: str) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(*table, column) for column in columns)


CANDLE_VALUES = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)
CANDLES: Final = CopyTable(
    "candles_1m", ("symbol", "time"), (*CANDLE_VALUES, "trades"), _QUERIES["has_candle"]
)
METRICS: Final = CopyTable(
    "metrics_calculated", ("symbol", "timeframe", "time"), VALUE_COLUMNS, _QUERIES["has_metrics"]
)


async def write_candles(connection: AsyncConnection, batch: CandleBatch) -> int:
    """Store the closed candles of the batch, and the longer bars that they end or change, in one transaction;
    forming ones are left out.

    Returns the number of distinct minutes. Raises psycopg.Error, and then has stored nothing.
    """
    closed = batch.take(batch.closed)
    if len(closed) == 0:
        return 0
    rows = closed.take(last_of_each(closed.symbol_index, closed.open_time_ms))
    oldest = int(rows.open_time_ms.argmin())
    key = {"symbol": rows.symbol_of(oldest), "time": _moment(rows.open_time_ms[oldest])}
    async with connection.transaction():
        await _write(connection, CANDLES, candle_stream(rows), key)
        await roll_up(connection, rows)
    return len(rows)


def candle_stream(rows: CandleBatch) -> bytes:
    """Return the stream of the columns of CANDLES."""
    return copy_stream(
        [
            TextColumn(rows.symbols, rows.symbol_index),
            TimeColumn(rows.open_time_ms),
            FloatColumns(np.column_stack([getattr(rows, name) for name in CANDLE_VALUES])),
            IntColumn(rows.trades),
        ]
    )


async def write_metrics(connection: AsyncConnection, batch: MetricsBatch) -> int:
    """Store the bars that end at closed minutes of the batch (`metric_rows`); otherwise like `write_candles`."""
    return await write_metric_rows(connection, metric_rows(batch))


async def write_metric_rows(connection: AsyncConnection, rows: MetricRows) -> int:
    """Store the rows in one transaction and return the number of distinct rows. Raises psycopg.Error."""
    if len(rows) == 0:
        return 0
    last = last_of_each(rows.symbol_index, rows.timeframe, rows.time_ms)
    stream = copy_stream(
        [
            TextColumn(rows.symbols, rows.symbol_index[last]),
            TextColumn(TIMEFRAME_NAMES, rows.timeframe[last]),
            TimeColumn(rows.time_ms[last]),
            FloatColumns(rows.values[last]),
        ]
    )
    # Bars of longer timeframes opened earlier: the shortest timeframe tells best where a delivery starts.
    oldest = int(np.lexsort((rows.time_ms, rows.timeframe))[0])
    key = {
        "symbol": rows.symbols[rows.symbol_index[oldest]],
        "timeframe": TIMEFRAME_NAMES[rows.timeframe[oldest]],
        "time": _moment(rows.time_ms[oldest]),
    }
    await _write(connection, METRICS, stream, key)
    return len(last)


async def write_alerts(connection: AsyncConnection, alerts: Sequence[Alert]) -> int:
    """Store the alerts, each with its seq, in one transaction; for an id, the first alert ever stored is kept.

    Returns the number of alerts that were new. Raises psycopg.Error, and then has stored nothing.
    """
    if not alerts:
        return 0
    parameters = {
        "seqs": [alert.seq for alert in alerts],
        "alerts": [alert.encode().decode() for alert in alerts],
    }
    async with connection.transaction():
        cursor = await connection.execute(_QUERIES["insert_alerts"], parameters)
    return cursor.rowcount


async def _write(
    connection: AsyncConnection, table: CopyTable, stream: bytes, oldest_key: Mapping[str, Any]
) -> None:
    async with connection.transaction():
        cursor = await connection.execute(table.exists, oldest_key)
        if await cursor.fetchone() == (False,):
            try:
                async with connection.transaction():
                    await copy_rows(connection, table.statement("copy"), stream)
            except UniqueViolation:
                pass
            else:
                return
        await connection.execute(table.statement("stage"))
        await copy_rows(connection, table.statement("copy", f"staged_{table.name}"), stream)
        await connection.execute(table.statement("upsert"))


async def copy_rows(connection: AsyncConnection, statement: sql.Composed, stream: bytes) -> None:
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        await copy.write(stream)


def _moment(time_ms: np.int64) -> datetime:
    return utc(int(time_ms))
