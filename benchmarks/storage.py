"""The disk space of a symbol's history, on plain PostgreSQL and on TimescaleDB, compressed and not.

    python -m benchmarks.storage --symbols 10 --days 365

It bounds how many symbols a disk holds. A market made from a seed is stored in order of time, as the sinks store it:
prices and volumes of three decimals. PostgreSQL is the embedded one; TimescaleDB is the one of the tests (WASM, needs
Node.js and npm), whose tables have the usual format. Where less than a year is stored, a year is computed from the
bytes per row. `metrics_calculated` is left out: its rows expire with the minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import psycopg
from psycopg import sql

from app.candles.batch import MINUTE_MS, CandleBatch
from app.database.candles.bar_tables import BAR_TABLES, MINUTES_TABLE
from app.database.candles.stored_bars import joined
from app.database.connection import connection_url
from app.database.migrate import migrate
from app.local.servers.embedded import EmbeddedStack
from app.settings import Settings
from app.sinks.copy import CANDLE_VALUES
from app.times import utc
from benchmarks.long_backtest import days_of_market
from tests.support.timescale_server import timescaledb, timescaledb_programs

_LAST_DAYS: Final = {MINUTES_TABLE: 2, "candles_5m": 60}
"""Tables of which only the last days are stored: they are most of a year's rows, and 5m bars two thirds of its bars."""
_ROWS_TOGETHER: Final = 500
"""Rows per message: many more would end the database in WASM."""
_LENGTHS: Final[Mapping[str, int]] = {MINUTES_TABLE: 1} | {table.name: table.minutes for table in BAR_TABLES}
"""Table -> minutes per bar."""
_INSERT: Final = """
    INSERT INTO {table} (time, symbol, open, high, low, close, volume, quote_volume, taker_buy_volume,
                         taker_buy_quote_volume, trades{minutes})
    SELECT *{value} FROM unnest(%s::timestamptz[], %s::text[], %s::float8[], %s::float8[], %s::float8[], %s::float8[],
                                %s::float8[], %s::float8[], %s::float8[], %s::float8[], %s::bigint[])
"""
Size = Callable[[psycopg.Connection, str], int]


def told(market: CandleBatch, day: int) -> CandleBatch:
    """Return the candles as an exchange sends them: with few digits, and takers with a part of the volume."""
    rng = np.random.default_rng((1, day))
    share = rng.uniform(0.3, 0.7, len(market))
    prices = {name: np.round(getattr(market, name), 3) for name in ("open", "high", "low", "close")}
    volume = np.round(market.volume, 3)
    quote = np.round(volume * prices["close"], 6)
    return replace(
        market,
        **prices,
        volume=volume,
        quote_volume=quote,
        trades=rng.poisson(np.minimum(volume, 1e6)).astype(np.int64),
        taker_buy_volume=np.round(volume * share, 3),
        taker_buy_quote_volume=np.round(quote * share, 6),
    )


def bars_by_day(symbols: int, days: int) -> Iterator[tuple[str, CandleBatch]]:
    """Yield each table's rows of each day; of some tables only the rows of the last days."""
    for day, market in enumerate(days_of_market(symbols, days)):
        bars, before = told(market, day), 1
        for table, length in _LENGTHS.items():
            if length > 1:
                bars = joined(bars, before * MINUTE_MS, length * MINUTE_MS)
            before = length
            if day >= days - _LAST_DAYS.get(table, days):
                yield table, bars


def store(connection: psycopg.Connection, symbols: int, days: int) -> dict[str, int]:
    """Store the market. Return the number of rows of each table."""
    rows = dict.fromkeys(_LENGTHS, 0)
    for table, bars in bars_by_day(symbols, days):
        longer = table != MINUTES_TABLE
        statement = sql.SQL(_INSERT).format(
            table=sql.Identifier(table),
            minutes=sql.SQL(", minutes" if longer else ""),
            value=sql.SQL(f", {_LENGTHS[table]}" if longer else ""),
        )
        for at in range(0, len(bars), _ROWS_TOGETHER):
            connection.execute(statement, _values(bars.take(slice(at, at + _ROWS_TOGETHER))))
        rows[table] += len(bars)
    return rows


def _values(bars: CandleBatch) -> tuple[list[object], ...]:
    times = [utc(time_ms) for time_ms in bars.open_time_ms.tolist()]
    names = [bars.symbols[at] for at in bars.symbol_index.tolist()]
    numbers = [getattr(bars, name).tolist() for name in CANDLE_VALUES]
    return times, names, *numbers, bars.trades.tolist()


def plain_size(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute("SELECT pg_total_relation_size(%s::regclass)", (table,)).fetchone()
    assert row is not None
    return int(row[0])


def hypertable_size(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute("SELECT public.hypertable_size(%s::regclass)", (table,)).fetchone()
    assert row is not None
    return int(row[0])


def bytes_a_row(connection: psycopg.Connection, rows: Mapping[str, int], size: Size) -> dict[str, float]:
    return {table: size(connection, table) / count for table, count in rows.items()}


def on_plain(symbols: int, days: int) -> dict[str, float]:
    with (
        tempfile.TemporaryDirectory(prefix="screener-storage-") as folder,
        EmbeddedStack.start(Path(folder), ("postgres",)) as stack,
    ):
        settings = Settings.load({}, postgres_url=stack.urls["postgres"], data_dir=folder)
        migrate(settings.postgres())
        with psycopg.connect(connection_url(settings.postgres()), autocommit=True) as connection:
            connection.execute("SET statement_timeout = 0")
            return bytes_a_row(connection, store(connection, symbols, days), plain_size)


def on_timescale(symbols: int, days: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the figures of each table, uncompressed and compressed."""
    with (
        tempfile.TemporaryDirectory(prefix="screener-storage-") as folder,
        timescaledb(timescaledb_programs(), Path(folder)) as settings,
    ):
        migrate(settings.postgres())
        with psycopg.connect(connection_url(settings.postgres()), autocommit=True) as connection:
            rows = store(connection, symbols, days)
            loose = bytes_a_row(connection, rows, hypertable_size)
            for table in rows:
                chunks = connection.execute(
                    "SELECT public.show_chunks(%s::regclass)::text", (table,)
                ).fetchall()
                for (chunk,) in chunks:
                    connection.execute("SELECT public.compress_chunk(%s::regclass)", (chunk,))
            return loose, bytes_a_row(connection, rows, hypertable_size)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--symbols", type=int, default=10)
    parser.add_argument("--days", type=int, default=365)
    given = parser.parse_args()
    plain = on_plain(given.symbols, given.days)
    loose, compressed = on_timescale(given.symbols, given.days)
    kinds = "plain | TimescaleDB | compressed"
    print(f"| table | rows a symbol and year | bytes a row: {kinds} | MB a symbol and year: {kinds} |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for table, minutes in _LENGTHS.items():
        rows = 365 * 1440 // minutes
        sizes = (plain[table], loose[table], compressed[table])
        bytes_each = " | ".join(f"{size:.1f}" for size in sizes)
        mb_each = " | ".join(f"{size * rows / 1e6:.2f}" for size in sizes)
        print(f"| {table} | {rows:,} | {bytes_each} | {mb_each} |")


if __name__ == "__main__":
    main()
