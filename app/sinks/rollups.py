"""Bars of 5m to 1d, stored beside the minutes and kept for longer.

A bar is written when it is over: when a minute at or after its last one is stored. It is made again when one of its
minutes comes late or is corrected. The first table is made of minutes, each further table of the bars in the one before
it: so a minute costs a few rows, however long its bars are. A bar that still forms is not in the tables: readers make
it of the shorter bars and the last minutes (`app.database.candles.klines`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import structlog
from psycopg import AsyncConnection, sql

from app.candles.batch import MINUTE_MS, CandleBatch, IndexArray, IntArray
from app.candles.intervals import DAY_MS
from app.candles.validity import EARLIEST_MS, LATEST_MS
from app.database.binary_format import last_of_each
from app.database.candles.bar_tables import BAR_TABLES, MINUTES_TABLE, BarTable
from app.database.named_queries import named_queries
from app.times import utc, utc_ms

_QUERIES = named_queries("rollups.sql")
_KEY: Final = ("symbol", "time")
_VALUES: Final = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trades",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "minutes",
)
_SLICE_MS: Final = 20 * DAY_MS
"""Length of the history that one statement per table rolls up; a multiple of every bar."""
_EVER: Final = {"since": utc(EARLIEST_MS), "until": utc(LATEST_MS)}
log = structlog.get_logger("database")


@dataclass(frozen=True, slots=True)
class _Touched:
    """Bars, or minutes: positions of their symbols, and where they begin (UTC ms); each pair once."""

    symbol_index: IndexArray
    start_ms: IntArray


@dataclass(frozen=True, slots=True)
class _Reach:
    """By symbol, UTC ms: up to when its bars were rolled up before (-1: none were), and up to when they are to be."""

    symbols: Sequence[str]
    old_ms: IntArray
    new_ms: IntArray


async def roll_up(connection: AsyncConnection, minutes: CandleBatch) -> None:
    """Store the bars of these minutes, which the present transaction has stored, and note their symbols.

    Until the transaction ends, it is the only writer of these symbols' bars. Raises psycopg.Error.
    """
    newest_ms = np.full(len(minutes.symbols), -1)
    np.maximum.at(newest_ms, minutes.symbol_index, minutes.open_time_ms)
    present = np.flatnonzero(newest_ms >= 0)
    symbols = [minutes.symbols[index] for index in present]
    days = [utc(int(newest_ms[index])).date() for index in present]
    cursor = await connection.execute(_QUERIES["lock_symbols"], {"symbols": symbols, "days": days})
    rolled_to: dict[str, datetime | None] = dict(await cursor.fetchall())
    unknown = [symbol for symbol, to in rolled_to.items() if to is None]
    if unknown:
        wanted = {"symbols": unknown, **_EVER}
        rolled_to.update(await (await connection.execute(_QUERIES["last_bars"], wanted)).fetchall())
    old_ms = np.array([-1 if (to := rolled_to[symbol]) is None else utc_ms(to) for symbol in symbols])
    reach = _Reach(symbols, old_ms, np.maximum(old_ms, newest_ms[present] + MINUTE_MS))
    position = np.zeros(len(minutes.symbols), np.int32)
    position[present] = np.arange(len(present))
    await _roll(connection, reach, _Touched(position[minutes.symbol_index], minutes.open_time_ms))
    await _note_rolled(connection, reach)


async def roll_up_stored(connection: AsyncConnection) -> int:
    """Store the bars of stored minutes that were not rolled up, because a version without bars or another program
    stored them; return the number of symbols.

    Needs an autocommit connection. Any number of processes may call it at once. Raises psycopg.Error; symbols that are
    done stay done.
    """
    symbols = [
        row[0] for row in await (await connection.execute(_QUERIES["symbols_to_roll"], _EVER)).fetchall()
    ]
    if symbols:
        log.info("bars_rolled_up", symbols=0, left=len(symbols))
    for number, symbol in enumerate(symbols, 1):
        async with connection.transaction():
            await _roll_symbol(connection, symbol)
        if number % 100 == 0 or number == len(symbols):
            log.info("bars_rolled_up", symbols=number, left=len(symbols) - number)
    return len(symbols)


async def _roll_symbol(connection: AsyncConnection, symbol: str) -> None:
    row = await (await connection.execute(_QUERIES["lock_symbol"], {"symbol": symbol})).fetchone()
    if row is None:
        return
    old_ms = -1 if row[0] is None else utc_ms(row[0])
    wanted = {"symbol": symbol, "since": utc(max(old_ms, EARLIEST_MS)), "until": utc(LATEST_MS)}
    stored = await (await connection.execute(_QUERIES["stored_range"], wanted)).fetchone()
    if stored is None or stored[0] is None:
        return
    first_ms, last_ms = utc_ms(stored[0]), utc_ms(stored[1])
    reach = _Reach([symbol], np.array([old_ms]), np.array([last_ms + MINUTE_MS]))
    length_ms = BAR_TABLES[0].length_ms
    for slice_ms in range(first_ms // _SLICE_MS * _SLICE_MS, last_ms + 1, _SLICE_MS):
        begin_ms, end_ms = max(slice_ms, first_ms), min(slice_ms + _SLICE_MS - 1, last_ms)
        start_ms = np.arange(begin_ms // length_ms * length_ms, end_ms + 1, length_ms)
        await _roll(connection, reach, _Touched(np.zeros(len(start_ms), np.int32), start_ms))
    await _note_rolled(connection, reach)


async def _roll(connection: AsyncConnection, reach: _Reach, touched: _Touched) -> None:
    finer = MINUTES_TABLE
    for table in BAR_TABLES:
        touched = _over(table, reach, touched)
        if len(touched.start_ms):
            first_ms, last_ms = int(touched.start_ms.min()), int(touched.start_ms.max())
            parameters = {
                "symbols": list(reach.symbols),
                "numbers": (touched.symbol_index + 1).tolist(),
                "starts": (touched.start_ms // 1000).tolist(),
                "since": utc(first_ms),
                "until": utc(last_ms + table.length_ms),
            }
            query = "roll_minutes" if finer == MINUTES_TABLE else "roll_bars"
            await connection.execute(bars_statement(query, table, finer), parameters)
        finer = table.name


def _over(table: BarTable, reach: _Reach, touched: _Touched) -> _Touched:
    """Return the bars that contain a touched bar or minute, or were forming before, and are over after this call."""
    length_ms = table.length_ms
    formed = np.flatnonzero((reach.old_ms >= 0) & (reach.old_ms % length_ms != 0))
    index = np.concatenate([touched.symbol_index, formed.astype(np.int32)])
    start_ms = np.concatenate([touched.start_ms, reach.old_ms[formed]]) // length_ms * length_ms
    kept = last_of_each(index, start_ms)
    kept = kept[start_ms[kept] + length_ms <= reach.new_ms[index[kept]]]
    return _Touched(index[kept], start_ms[kept])


async def _note_rolled(connection: AsyncConnection, reach: _Reach) -> None:
    times = [utc(int(time_ms)) for time_ms in reach.new_ms]
    await connection.execute(_QUERIES["note_rolled"], {"symbols": list(reach.symbols), "times": times})


def bars_statement(query: str, table: BarTable, finer: str = "") -> sql.Composed:
    """Return a statement of rollups.sql about the table, made of the table `finer` if it names it."""
    return sql.SQL(_QUERIES[query]).format(
        table=sql.Identifier(table.name),
        finer=sql.Identifier(finer),
        length=sql.Literal(f"{table.minutes} minutes"),
        minutes=sql.Literal(table.minutes),
        every_minute=sql.SQL(", present = DEFAULT" if table == BAR_TABLES[0] else ""),
        columns=_names((*_KEY, *_VALUES)),
        values=_names(_VALUES),
        old_values=_names(_VALUES, "old"),
        new_values=_names(_VALUES, "excluded"),
    )


def _names(columns: Sequence[str], *table: str) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(*table, column) for column in columns)
