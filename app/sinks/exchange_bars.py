"""Stores bars that the exchange itself gives, from the warm-up and from `screener backfill`."""

from __future__ import annotations

from psycopg import AsyncConnection

from app.candles.batch import CandleBatch
from app.database.binary_format import last_of_each
from app.database.candles.bar_tables import BAR_TABLE_OF
from app.database.named_queries import named_queries
from app.sinks.copy import CANDLES, candle_stream, copy_rows
from app.sinks.rollups import bars_statement

_QUERIES = named_queries("rollups.sql")


async def write_bars(connection: AsyncConnection, timeframe: str, bars: CandleBatch) -> int:
    """Store whole bars in one transaction, except bars that are whole in the table already; return the number of
    distinct bars, 0 for a timeframe that has no table.

    Raises psycopg.Error, and then has stored nothing.
    """
    table = BAR_TABLE_OF.get(timeframe)
    if table is None or len(bars) == 0:
        return 0
    rows = bars.take(last_of_each(bars.symbol_index, bars.open_time_ms))
    rows = rows.take(rows.open_time_ms % table.length_ms == 0)
    async with connection.transaction():
        await connection.execute(_QUERIES["lock_known_symbols"], {"symbols": list(rows.symbols)})
        await connection.execute(_QUERIES["stage_bars"])
        await copy_rows(connection, CANDLES.statement("copy", "staged_bars"), candle_stream(rows))
        await connection.execute(bars_statement("put_bars", table))
        await connection.execute(_QUERIES["forget_staged_bars"])
    return len(rows)
