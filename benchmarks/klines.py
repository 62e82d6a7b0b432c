"""How long a chart takes on a year of stored bars: `/api/klines` against one SQL statement for all of it.

    python -m benchmarks.klines --symbols 500 --days 365

The path is hot because each chart of the page asks for it whenever its symbol or interval changes. PostgreSQL holds
bars of 15m, 1h, 4h and 1d of all symbols for DAYS days and two days of 5m and of minutes, stored in order of time as
the sinks store them: two rows of a symbol are pages apart. The baseline (`plain_klines`) aggregates in the database,
and sums decimals there. Both answer for random symbols in turn, in one process, up to the JSON text; each pair of
answers must be equal. The database is the embedded one, with its 128 MB of buffers; its tables are unlogged, which
makes no difference for reads.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
from psycopg import AsyncConnection, sql

from app.candles.intervals import INTERVALS
from app.database.candles.bar_tables import BAR_TABLES, MINUTES_TABLE
from app.database.candles.klines import klines
from app.database.connection import open_pool
from app.database.migrate import migrate
from app.local.servers.embedded import EmbeddedStack
from app.settings import Settings
from app.sidecar.rest.klines import exchange_arrays
from benchmarks.plain_klines import Span, plain_klines

_CHARTS = (("15m", 672), ("1d", 400), ("1h", 500), ("2h", 500), ("1m", 500))
_SHORT_DAYS = 2
"""Days of minutes and 5m bars: as long as minutes are kept by default."""
_END = datetime.fromisoformat("2024-02-28T13:38:00+00:00")
"""The end of the data: a time at which bars of every length are forming."""
_FILL = """
    INSERT INTO {table} ({columns})
    SELECT time, symbol, price, price * 1.01, price * 0.99, price * 1.001,
           round(volume::numeric, 3), round((volume * price)::numeric, 7), (volume * 10)::bigint,
           round((volume / 2)::numeric, 3), round((volume * price / 2)::numeric, 7){minutes}
    FROM generate_series(%(first)s::timestamptz, %(last)s::timestamptz, %(length)s::interval) AS time
    CROSS JOIN LATERAL (
        SELECT 'C' || lpad(n::text, 4, '0') || 'USDT' AS symbol,
               round((n + 1 + random())::numeric, 4)::float8 AS price, random() * 1000 AS volume
        FROM generate_series(0, %(symbols)s - 1) AS n
        WHERE time IS NOT NULL
    ) AS bar
"""
_COLUMNS = (
    "time, symbol, open, high, low, close, volume, quote_volume, trades, "
    "taker_buy_volume, taker_buy_quote_volume"
)


def spans(interval: str) -> list[Span]:
    """Return the tables that bars of the interval are made from, longest bars first, each with its time range."""
    length_ms = INTERVALS[interval].length_ms
    assert length_ms is not None
    found: list[Span] = []
    since = datetime.min.replace(tzinfo=_END.tzinfo)
    for table in reversed(BAR_TABLES):
        if length_ms % table.length_ms == 0:
            found.append(Span(table.name, "minutes", since, _floor(table.minutes)))
            since = _floor(table.minutes)
    return [*found, Span(MINUTES_TABLE, "1", since, _END)]


def _floor(minutes: int) -> datetime:
    seconds = int(_END.timestamp())
    return _END - timedelta(seconds=seconds % (minutes * 60))


async def fill(settings: Settings, symbols: int, days: int) -> None:
    async with (
        await open_pool(settings.postgres(), statement_timeout_ms=0) as pool,
        pool.connection() as connection,
    ):
        await connection.execute("SELECT setseed(0.5)")
        await _fill_table(connection, MINUTES_TABLE, 1, symbols, _SHORT_DAYS)
        for table in BAR_TABLES:
            kept_days = _SHORT_DAYS if table == BAR_TABLES[0] else days
            await _fill_table(connection, table.name, table.minutes, symbols, kept_days)
        await connection.execute(
            "INSERT INTO candle_symbols (symbol, newest_day, rolled_to) "
            "SELECT symbol, %(day)s, %(end)s FROM candles_1m GROUP BY symbol",
            {"day": _END.date(), "end": _END},
        )


async def _fill_table(connection: AsyncConnection, table: str, minutes: int, symbols: int, days: int) -> None:
    length = timedelta(minutes=minutes)
    wanted = {
        "first": _floor(1440) - timedelta(days=days),
        "last": _floor(minutes) - length,
        "length": length,
        "symbols": symbols,
    }
    has_minutes = table != MINUTES_TABLE
    statement = sql.SQL(_FILL).format(
        table=sql.Identifier(table),
        columns=sql.SQL(_COLUMNS + (", minutes" if has_minutes else "")),
        minutes=sql.SQL(", {}").format(sql.Literal(minutes)) if has_minutes else sql.SQL(""),
    )
    began_s = time.monotonic()
    await connection.execute(sql.SQL("ALTER TABLE {} SET UNLOGGED").format(sql.Identifier(table)))
    cursor = await connection.execute(statement, wanted)
    await connection.execute(sql.SQL("VACUUM ANALYZE {}").format(sql.Identifier(table)))
    print(f"{table}: {cursor.rowcount:,} rows in {time.monotonic() - began_s:.0f} s", flush=True)


async def measure(settings: Settings, symbols: int, charts: int) -> None:
    draw = np.random.default_rng(1)
    print("| chart | bars | p50 ms | p95 | plain p50 | p95 | ratio of p95 |\n|---|--:|--:|--:|--:|--:|--:|")
    async with await open_pool(settings.postgres(), max_size=1) as pool, pool.connection() as connection:
        for interval, limit in _CHARTS:
            plain_spans = spans(interval)
            taken_ms: tuple[list[float], list[float]] = ([], [])
            for number in draw.integers(0, symbols, charts):
                symbol = f"C{number:04d}USDT"
                began_s = time.perf_counter()
                found = await klines(connection, symbol, INTERVALS[interval], limit)
                ours = orjson.dumps(exchange_arrays(found or ()))
                between_s = time.perf_counter()
                plain = await plain_klines(connection, symbol, INTERVALS[interval], limit, plain_spans)
                ended_s = time.perf_counter()
                taken_ms[0].append((between_s - began_s) * 1000)
                taken_ms[1].append((ended_s - between_s) * 1000)
                assert ours == plain, f"{symbol} {interval}: another answer than the plain statement's"
            ((p50, p95), (plain_p50, plain_p95)) = (np.percentile(one, [50, 95]) for one in taken_ms)
            print(
                f"| {limit} x {interval} | {len(found or ())} | {p50:.1f} | {p95:.1f} | {plain_p50:.1f} "
                f"| {plain_p95:.1f} | {plain_p95 / p95:.1f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--charts", type=int, default=200, help="of each interval")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="screener-klines-") as folder,
        EmbeddedStack.start(Path(folder), ("postgres",)) as stack,
    ):
        settings = Settings.load({}, postgres_url=stack.urls["postgres"], data_dir=folder)
        migrate(settings.postgres())
        asyncio.run(fill(settings, arguments.symbols, arguments.days))
        asyncio.run(measure(settings, arguments.symbols, arguments.charts))


if __name__ == "__main__":
    main()
