"""Candles of any interval, made of the stored bars and minutes.

A finished bar is made of the rows of the table with the longest bars that fit into it. The tables hold only finished
bars, so the end of the last bar is made of shorter bars and of the last minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from psycopg import AsyncConnection, sql

from app.candles.batch import MINUTE_MS, IntArray
from app.candles.intervals import Interval
from app.candles.validity import EARLIEST_MS, LATEST_MS
from app.database.binary_format import array_values, to_ms
from app.database.candles.bar_tables import MINUTES_TABLE, BarTable, tables_below
from app.database.candles.kline_rows import Kline, Rows, bars_of
from app.database.candles.minutes import newest_minute
from app.database.named_queries import named_queries
from app.database.unreadable import tell
from app.telemetry import DatabaseMetrics
from app.times import utc, utc_ms

_QUERIES = named_queries("klines.sql")
_LAST_NAMED_MS: Final = 253_370_764_800_000
"""9999-01-01: in any interval, the next bar also begins at a time that `datetime` can hold."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A table whose rows are used before `until_ms` (UTC ms); from there on, the next source is used."""

    table: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class _Sources:
    """The tables that a read uses: the first has the longest bars, and reaches back farthest. newest_ms: the last
    minute of the last table (UTC ms)."""

    parts: Sequence[_Source]
    newest_ms: int


async def klines(
    connection: AsyncConnection,
    symbol: str,
    interval: Interval,
    limit: int,
    since_ms: int | None = None,
    until_ms: int | None = None,
    metrics: DatabaseMetrics | None = None,
) -> list[Kline] | None:
    """Return bars with since_ms <= open time < until_ms, oldest first; None for a symbol of which nothing is stored.

    With `since_ms` these are the first `limit` bars from the first stored one at or after it, otherwise the last
    `limit`. A bar with a missing minute is left out: no bar is made from a part of it. The last bar may still be
    forming: it is returned if all its minutes so far are stored. `metrics` count invalid rows that are left out.
    """
    first_ms = None
    if since_ms is not None:
        start_ms = interval.start_of(min(max(0, since_ms), _LAST_NAMED_MS))
        first_ms = start_ms if start_ms >= since_ms else interval.step(start_ms, 1)
    sources = await _sources(connection, symbol, interval)
    if sources is None:
        return None
    newest_ms = sources.newest_ms
    end_ms = newest_ms + MINUTE_MS
    last_ms = min(newest_ms, _LAST_NAMED_MS, LATEST_MS if until_ms is None else until_ms - 1)
    last_bar_ms = interval.start_of(max(0, last_ms))
    if first_ms is None:
        start_ms = interval.step(last_bar_ms, 1 - limit)
    elif first_ms >= end_ms:
        return []
    else:
        likely_ms = interval.step(first_ms, limit)
        stored_ms = await _first_stored(connection, symbol, sources, first_ms, likely_ms, end_ms)
        if stored_ms is None:
            return []
        start_ms = interval.start_of(stored_ms)
        # one more, because the first may lack the minutes before the first stored one
        end_ms = min(end_ms, interval.step(start_ms, limit + 1))
    end_ms = min(end_ms, interval.step(last_bar_ms, 1))
    columns = await _columns(connection, symbol, sources, start_ms, end_ms)
    if columns is None:
        return []
    found, invalid_ms = bars_of(Rows.decoded(columns), interval, newest_ms)
    for bar_ms in invalid_ms.tolist():
        fault = "a minute in this bar has invalid prices, volumes or trades"
        tell(MINUTES_TABLE, f"{symbol} {utc(bar_ms)}", fault, metrics)
    return found if first_ms is None else found[:limit]


async def whole_bars(
    connection: AsyncConnection, table: BarTable, symbol: str, since_ms: int, until_ms: int
) -> IntArray:
    """Return the open times (UTC ms) in [since_ms, until_ms) of stored bars that miss no minute, sorted."""
    statement = sql.SQL(_QUERIES["whole_bars"]).format(
        table=sql.Identifier(table.name), minutes=sql.Literal(table.minutes)
    )
    wanted = {"symbol": symbol, "since": utc(since_ms), "until": utc(until_ms)}
    row = await (await connection.execute(statement, wanted, binary=True)).fetchone()
    if row is None or row[0] is None:
        return np.empty(0, np.int64)
    found: IntArray = np.sort(to_ms(array_values(row[0], ">i8").astype(np.int64)))
    return found


async def _sources(connection: AsyncConnection, symbol: str, interval: Interval) -> _Sources | None:
    """Return the tables to read; None if no table has the symbol."""
    tables = tables_below(interval)
    if not tables:
        newest_ms = await newest_minute(connection, symbol)
        if newest_ms is None:
            return None
        return _Sources([_Source(MINUTES_TABLE, newest_ms + MINUTE_MS)], newest_ms)
    row = await (await connection.execute(_QUERIES["rolled_to"], {"symbol": symbol})).fetchone()
    rolled_ms = utc_ms(row[0]) if row is not None and row[0] is not None else EARLIEST_MS
    longest = tables[0]
    over_ms = rolled_ms // longest.length_ms * longest.length_ms
    # the exchange's own bars may go on after the minutes
    last_ms = await _stored(connection, symbol, "last_stored", longest.name, over_ms, LATEST_MS)
    if last_ms is not None:
        over_ms = last_ms + longest.length_ms
    elif rolled_ms == EARLIEST_MS:
        return None
    parts = [_Source(longest.name, over_ms)]
    for table in tables[1:]:
        over_ms = max(over_ms, rolled_ms // table.length_ms * table.length_ms)
        parts.append(_Source(table.name, over_ms))
    end_ms = max(over_ms, rolled_ms)
    return _Sources([*parts, _Source(MINUTES_TABLE, end_ms)], end_ms - MINUTE_MS)


async def _first_stored(
    connection: AsyncConnection,
    symbol: str,
    sources: _Sources,
    since_ms: int,
    likely_until_ms: int,
    until_ms: int,
) -> int | None:
    """Return the time of the first row in [since_ms, until_ms); a row before `likely_until_ms` costs less to find."""
    for source in sources.parts:
        bounds = ((since_ms, min(likely_until_ms, until_ms)), (likely_until_ms, until_ms))
        for start_ms, end_ms in bounds:
            found_ms = await _stored(
                connection, symbol, "first_stored", source.table, start_ms, min(end_ms, source.until_ms)
            )
            if found_ms is not None:
                return found_ms
        since_ms = max(since_ms, source.until_ms)
    return None


async def _stored(
    connection: AsyncConnection, symbol: str, query: str, table: str, since_ms: int, until_ms: int
) -> int | None:
    if since_ms >= until_ms:
        return None
    wanted = {
        "symbol": symbol,
        "since": utc(max(since_ms, EARLIEST_MS)),
        "until": utc(max(until_ms, EARLIEST_MS)),
    }
    statement = sql.SQL(_QUERIES[query]).format(table=sql.Identifier(table))
    row = await (await connection.execute(statement, wanted)).fetchone()
    return None if row is None or row[0] is None else utc_ms(row[0])


async def _columns(
    connection: AsyncConnection, symbol: str, sources: _Sources, since_ms: int, until_ms: int
) -> Sequence[bytes] | None:
    """Return the columns of the rows in [since_ms, until_ms); None if no row is stored there."""
    parts: list[sql.Composed] = []
    for source in sources.parts:
        end_ms = min(source.until_ms, until_ms)
        if since_ms < end_ms:
            parts.append(_part(source.table, since_ms, end_ms))
            since_ms = end_ms
    if not parts:
        return None
    statement = sql.SQL(_QUERIES["klines"]).format(parts=sql.SQL(" UNION ALL ").join(parts))
    cursor = await connection.execute(statement, {"symbol": symbol}, binary=True)
    row = await cursor.fetchone()
    return None if row is None or row[0] is None else row


def _part(table: str, since_ms: int, until_ms: int) -> sql.Composed:
    return sql.SQL(_QUERIES["part"]).format(
        table=sql.Identifier(table),
        minutes=sql.SQL("1" if table == MINUTES_TABLE else "minutes"),
        since=sql.Literal(utc(since_ms)),
        until=sql.Literal(utc(until_ms)),
    )
