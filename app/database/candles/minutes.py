"""Reads of the stored minutes: those of a time range, and those that feed and calculator need at their start.

`metrics` count the invalid rows that are left out; a command passes None.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import numpy as np
import psycopg
import structlog
from psycopg import AsyncConnection, sql

from app.candles.batch import MINUTE_MS, CandleBatch
from app.candles.known_minutes import Gap
from app.candles.symbols import is_symbol
from app.candles.validity import EARLIEST_MS, LATEST_MS
from app.database.binary_format import array_values, to_ms
from app.database.candles.bar_tables import MINUTES_TABLE
from app.database.connection import connect
from app.database.named_queries import named_queries
from app.database.unreadable import tell
from app.settings.access import PostgresAccess
from app.telemetry import DatabaseMetrics
from app.times import utc, utc_ms
from app.wire.topics import shard_of

_QUERIES = named_queries("reads.sql")
_MINUTES: Final = sql.SQL(_QUERIES["candles_of_all"]).format(
    table=sql.Identifier(MINUTES_TABLE), condition=sql.SQL("")
)
_TIMEOUT_MS = 60_000
log = structlog.get_logger("database")
History = Callable[[int, int, int], Awaitable[CandleBatch | None]]
_MOST_TOLD: Final = 20
_MOST_TRADES: Final = 10**12
_MOST: Final = 1e30
"""Bound of summed values: far above any traded volume, far below an overflow."""
_VALUES = ("open", "high", "low", "close", "volume", "quote_volume")
_TAKER_VALUES = ("taker_buy_volume", "taker_buy_quote_volume")


async def stored_symbols(connection: AsyncConnection, metrics: DatabaseMetrics | None = None) -> list[str]:
    """Return all symbols that have stored minutes, sorted."""
    cursor = await connection.execute(_QUERIES["stored_symbols"])
    symbols = [row[0] for row in await cursor.fetchall()]
    for symbol in symbols:
        if not is_symbol(symbol):
            tell("candle_symbols", symbol, "invalid symbol", metrics)
    return [symbol for symbol in symbols if is_symbol(symbol)]


async def newest_minute(connection: AsyncConnection, symbol: str) -> int | None:
    """Return the open time (UTC ms) of the symbol's newest stored minute; None without one."""
    known = await (await connection.execute(_QUERIES["newest_day"], {"symbol": symbol})).fetchone()
    if known is None:
        return None
    # that day may have been deleted since
    for since, until in ((known[0], utc(LATEST_MS)), (utc(EARLIEST_MS), known[0])):
        wanted = {"symbol": symbol, "since": since, "until": until}
        row = await (await connection.execute(_QUERIES["newest_minute"], wanted)).fetchone()
        if row is not None and row[0] is not None:
            return utc_ms(row[0])
    return None


async def load_minutes(
    connection: AsyncConnection,
    symbols: Sequence[str],
    since_ms: int,
    until_ms: int,
    metrics: DatabaseMetrics | None = None,
) -> CandleBatch:
    """Return the stored minutes with since_ms <= open time < until_ms, in order of time, then of `symbols`.

    Columns missing in the table are filled in: all candles are closed, and their event and ingest time are the end
    of the minute. Use one exchange's symbols: the table does not tell exchanges apart.
    """
    parameters = {
        "symbols": list(symbols),
        "since": utc(min(max(since_ms, EARLIEST_MS), LATEST_MS)),
        "until": utc(min(max(until_ms, EARLIEST_MS), LATEST_MS)),
    }
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(_MINUTES, parameters)
        return candles_of_rows(MINUTES_TABLE, tuple(symbols), await cursor.fetchall(), metrics)


async def load_shard_minutes(
    connection: AsyncConnection,
    shard: int,
    partitions: int,
    since_ms: int,
    until_ms: int,
    metrics: DatabaseMetrics | None = None,
) -> CandleBatch:
    """Return the result of `load_minutes` for all stored symbols whose frames travel in this partition."""
    symbols = [s for s in await stored_symbols(connection, metrics) if shard_of(s, partitions) == shard]
    return await load_minutes(connection, symbols, since_ms, until_ms, metrics)


def candles_of_rows(
    table: str, symbols: tuple[str, ...], rows: Sequence[tuple[Any, ...]], metrics: DatabaseMetrics | None
) -> CandleBatch:
    """Return the valid candles in order of time; count and log the others.

    rows: position of the symbol, then the binary arrays of its times, prices, volumes, trades and taker volumes
    (NaN: unknown).
    """
    times = _joined(rows, 1, ">i8")
    values = {name: _joined(rows, column, ">f8") for column, name in enumerate(_VALUES, 2)}
    trades = _joined(rows, 8, ">i8")
    values |= {name: _joined(rows, column, ">f8") for column, name in enumerate(_TAKER_VALUES, 9)}
    index = np.repeat([row[0] for row in rows], [len(array_values(row[1], ">i8")) for row in rows])
    open_time_ms = to_ms(times)
    order = np.lexsort((index, open_time_ms))
    columns: dict[str, Any] = {name: column.astype(np.float64)[order] for name, column in values.items()}
    open_time_ms = open_time_ms[order]
    batch = CandleBatch(
        symbols=symbols,
        symbol_index=index[order].astype(np.int32),
        open_time_ms=open_time_ms,
        **columns,
        trades=trades.astype(np.int64)[order],
        quote_estimated=np.zeros(len(order), np.bool_),
        closed=np.ones(len(order), np.bool_),
        event_ts_ms=open_time_ms + MINUTE_MS,
        ingest_ts_ms=open_time_ms + MINUTE_MS,
    )
    good = _are_candles(batch)
    for row in np.flatnonzero(~good)[:_MOST_TOLD]:
        what = f"{batch.symbol_of(row)} {utc(int(batch.open_time_ms[row]))}"
        tell(table, what, "invalid prices, volumes, trades or time", metrics)
    return batch if good.all() else batch.take(good)


def _are_candles(batch: CandleBatch) -> np.ndarray:
    prices = np.stack([batch.open, batch.high, batch.low, batch.close])
    amounts = np.stack([batch.volume, batch.quote_volume, batch.trades.astype(np.float64)])
    taker = np.stack([getattr(batch, name) for name in _TAKER_VALUES])
    good: np.ndarray = (
        np.isfinite(prices).all(axis=0)
        & (prices > 0).all(axis=0)
        & np.isfinite(amounts).all(axis=0)
        & (amounts >= 0).all(axis=0)
        & (amounts < _MOST).all(axis=0)
        & (np.isnan(taker) | ((taker >= 0) & (taker < _MOST))).all(axis=0)
        & (batch.trades <= _MOST_TRADES)
        & (batch.open_time_ms % MINUTE_MS == 0)
    )
    return good


def _joined(rows: Sequence[tuple[Any, ...]], column: int, kind: str) -> np.ndarray:
    return np.concatenate([np.empty(0, kind), *(array_values(row[column], kind) for row in rows)])


async def stored_runs(
    postgres: PostgresAccess, metrics: DatabaseMetrics, symbols: Sequence[str], since_ms: int
) -> list[Gap]:
    """Return runs of consecutive stored minutes from `since_ms` (UTC) on, by symbol, oldest first.

    Each goes from the open time of its first minute to that of its last. Empty, with a log line, if the
    database does not answer: the caller then fetches minutes that may be stored already, which is harmless.
    """
    metrics.asked("minute_runs")
    parameters = {"symbols": list(symbols), "since": utc(since_ms), "until": utc(LATEST_MS)}
    try:
        async with await connect(postgres, _TIMEOUT_MS) as connection:
            cursor = await connection.execute(_QUERIES["minute_runs"], parameters)
            rows = await cursor.fetchall()
    except psycopg.Error as error:
        metrics.errors.labels(operation="minute_runs").inc()
        log.warning("stored_minutes_unknown", error=str(error), policy="all of them are fetched")
        return []
    return [Gap(symbol, utc_ms(first), utc_ms(last)) for symbol, first, last in rows]


def database_history(postgres: PostgresAccess, partitions: int, metrics: DatabaseMetrics) -> History:
    """Return a function that returns the closed candles of a shard with since_ms <= open time < until_ms, UTC.

    It returns None if the database does not answer: the stream continues without it then, with windows null until
    they are whole, and the failure is logged and counted. It is asked once per shard and start, so it opens a
    connection each time and keeps none.
    """

    async def history(shard: int, since_ms: int, until_ms: int) -> CandleBatch | None:
        metrics.asked("load_minutes")
        try:
            async with await connect(postgres) as connection:
                found = await load_shard_minutes(connection, shard, partitions, since_ms, until_ms, metrics)
        except psycopg.Error as error:
            metrics.errors.labels(operation="load_minutes").inc()
            log.warning("history_unavailable", shard=shard, error=str(error))
            return None
        return found

    return history
