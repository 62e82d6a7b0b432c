"""The stored longer bars, from which a calculator that starts without its tables warms up long indicators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import psycopg
import structlog
from psycopg import AsyncConnection, sql

from app.candles.batch import MINUTE_MS, CandleBatch
from app.database.candles.bar_tables import BAR_TABLES, BarTable
from app.database.candles.minutes import candles_of_rows
from app.database.connection import connect
from app.database.named_queries import named_queries
from app.market.timeframes import TIMEFRAMES, WARM_UP_BARS, WARMED_BY_BARS
from app.settings.access import PostgresAccess
from app.telemetry import DatabaseMetrics
from app.times import utc

_QUERIES = named_queries("reads.sql")
_SYMBOLS_TOGETHER: Final = 50
"""Symbols per statement. Rows of a symbol lie pages apart: so few symbols stay within the statement timeout even on a
slow disk."""
log = structlog.get_logger("database")

StoredBars = Callable[[Sequence[str], int], Awaitable[Mapping[str, CandleBatch] | None]]
"""(symbols, until_ms) -> timeframe -> the last whole bars before until_ms, by time; None if the database is down."""


def database_bars(postgres: PostgresAccess, metrics: DatabaseMetrics) -> StoredBars:
    """Return a function that returns, for each timeframe that bars warm up, the last WARM_UP_BARS bars that ended by
    `until_ms` (UTC) and miss no minute. It returns None if the database does not answer, which is logged and
    counted."""

    async def bars(symbols: Sequence[str], until_ms: int) -> Mapping[str, CandleBatch] | None:
        metrics.asked("load_bars")
        try:
            async with await connect(postgres) as connection:
                return {
                    timeframe: await load_bars(connection, timeframe, symbols, until_ms, metrics)
                    for timeframe in WARMED_BY_BARS
                }
        except psycopg.Error as error:
            metrics.errors.labels(operation="load_bars").inc()
            log.warning("history_unavailable", error=str(error))
            return None

    return bars


async def load_bars(
    connection: AsyncConnection,
    timeframe: str,
    symbols: Sequence[str],
    until_ms: int,
    metrics: DatabaseMetrics | None = None,
) -> CandleBatch:
    """Return the last WARM_UP_BARS bars of each symbol that ended by `until_ms` (UTC) and miss no minute, in order of
    time. Bars of a timeframe without a table are made of the longest stored bars that fit into them."""
    length_ms = TIMEFRAMES[timeframe] * MINUTE_MS
    table = _table_below(length_ms)
    end_ms = until_ms // length_ms * length_ms
    statement = sql.SQL(_QUERIES["candles_of_all"]).format(
        table=sql.Identifier(table.name),
        condition=sql.SQL("AND c.minutes >= {}").format(sql.Literal(table.minutes)),
    )
    wanted = {
        "since": utc(max(0, end_ms - WARM_UP_BARS * length_ms)),
        "until": utc(end_ms),
    }
    rows: list[tuple[Any, ...]] = []
    async with connection.cursor(binary=True) as cursor:
        for begin in range(0, len(symbols), _SYMBOLS_TOGETHER):
            group = list(symbols[begin : begin + _SYMBOLS_TOGETHER])
            await cursor.execute(statement, {"symbols": group, **wanted})
            rows += [(begin + position, *columns) for position, *columns in await cursor.fetchall()]
    bars = candles_of_rows(table.name, tuple(symbols), rows, metrics)
    return bars if table.length_ms == length_ms else joined(bars, table.length_ms, length_ms)


def _table_below(length_ms: int) -> BarTable:
    return [table for table in BAR_TABLES if length_ms % table.length_ms == 0][-1]


def joined(bars: CandleBatch, length_ms: int, longer_ms: int) -> CandleBatch:
    """Return the longer bars that have all their parts, in order of time. bars: distinct bars of `length_ms`."""
    starts = bars.open_time_ms // longer_ms
    order = np.lexsort((bars.open_time_ms, bars.symbol_index, starts))
    keys = np.column_stack((starts, bars.symbol_index))[order]
    first = np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]).any(axis=1))[: len(keys)])
    count = np.diff(np.append(first, len(keys)))
    parts = longer_ms // length_ms
    whole = first[count == parts]
    rows = order[whole[:, None] + np.arange(parts)]
    ends = bars.take(rows[:, -1])
    return replace(
        ends,
        open_time_ms=bars.open_time_ms[rows[:, 0]],
        open=bars.open[rows[:, 0]],
        high=bars.high[rows].max(axis=1),
        low=bars.low[rows].min(axis=1),
        **{
            name: getattr(bars, name)[rows].sum(axis=1)
            for name in ("volume", "quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume")
        },
    )
