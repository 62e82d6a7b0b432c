"""Rows for tests of the database, and a connection to a migrated schema."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from app.candles.batch import MINUTE_MS, CandleBatch
from app.database.connection import connection_url, open_pool
from app.database.migrate import migrate
from app.market.fields import METRIC_COLUMNS
from app.market.metrics import MetricsBatch
from app.rules.alert import Alert
from app.settings import Settings
from app.sinks.copy import write_candles

MIDNIGHT_MS = 1_700_006_400_000
"""2023-11-15 00:00 UTC: bars of every timeframe begin here."""


@asynccontextmanager
async def migrated(settings: Settings) -> AsyncIterator[AsyncConnection]:
    """Migrate the schema; yield an autocommit connection to it."""
    migrate(settings.postgres())
    async with await AsyncConnection.connect(
        connection_url(settings.postgres()), autocommit=True
    ) as connection:
        yield connection


async def store(settings: Settings, batch: CandleBatch) -> None:
    async with await open_pool(settings.postgres()) as pool, pool.connection() as connection:
        await write_candles(connection, batch)


async def rows_of(connection: AsyncConnection, table: str, order: str) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(f"SELECT * FROM {table} ORDER BY {order}")
        return await cursor.fetchall()


def moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def candles(
    symbols: Sequence[str], minutes: int, start_ms: int = MIDNIGHT_MS, seed: int = 0, **columns: Any
) -> CandleBatch:
    """Return closed candles of all symbols for `minutes` minutes, in order of time. `columns` override columns."""
    rows = len(symbols) * minutes
    random = np.random.default_rng(seed)
    open_time_ms = np.repeat(start_ms + MINUTE_MS * np.arange(minutes), len(symbols))
    names = ("open", "high", "low", "close", "volume", "quote_volume")
    numbers = {name: random.random(rows) * 100 + 1 for name in names}
    trades = random.integers(0, 1000, rows)
    bought = random.random(rows)
    batch = CandleBatch(
        symbols=tuple(symbols),
        symbol_index=np.tile(np.arange(len(symbols), dtype=np.int32), minutes),
        open_time_ms=open_time_ms,
        **numbers,
        trades=trades,
        taker_buy_volume=numbers["volume"] * bought,
        taker_buy_quote_volume=numbers["quote_volume"] * bought,
        quote_estimated=np.zeros(rows, np.bool_),
        closed=np.ones(rows, np.bool_),
        event_ts_ms=open_time_ms + MINUTE_MS,
        ingest_ts_ms=open_time_ms + MINUTE_MS,
    )
    return replace(batch, **columns)


def metrics(of: CandleBatch, columns: Sequence[str] = METRIC_COLUMNS, seed: int = 0) -> MetricsBatch:
    """Return a row of random values for every candle."""
    return MetricsBatch(
        symbols=of.symbols,
        symbol_index=of.symbol_index,
        open_time_ms=of.open_time_ms,
        closed=of.closed,
        event_ts_ms=of.event_ts_ms,
        ingest_ts_ms=of.ingest_ts_ms,
        values=np.random.default_rng(seed).random((len(of), len(columns))),
        columns=tuple(columns),
    )


def alert(seq: int, **fields: Any) -> Alert:
    """Return an alert whose id depends only on `seq`. `fields` override its fields."""
    time = moment(MIDNIGHT_MS + seq * 1000).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    given = {
        "id": str(uuid5(NAMESPACE_URL, f"alert {seq}")),
        "symbol": "BTCUSDT",
        "rule_type": "futures_pioneer_bull",
        "rule_version": 1,
        "severity": "critical",
        "description": "a steep rise",
        "timestamp": time,
        "price": 100.5,
        "metadata": {"price_change_5m": 1.25, "rsi": None},
        "timings": {"exchange_ts_ms": 1, "ingest_ts_ms": 2, "evaluate_ts_ms": 3, "publish_ts_ms": 4},
        "backfilled": False,
    }
    return Alert.from_dict(given | fields, seq)
