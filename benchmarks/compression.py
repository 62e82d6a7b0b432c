"""How much space TimescaleDB's compression saves, in the layout that `screener migrate` sets up.

`python -m benchmarks.compression` stores a day of the recorded candles and of the metrics computed from them, in
TimescaleDB 2.23 in WASM (tests/support/timescale_server.py), and prints the sizes of its chunks, with their indexes,
before and after. The size does not depend on the machine. `--ways` stores the candles in other ways too: longer chunks,
prices as whole ticks, decimal numbers. Needs Node.js, npm and MARKET_DATA.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg
from psycopg import sql

from app.candles.batch import MINUTE_MS, CandleBatch, FloatArray
from app.database.connection import connection_url
from app.database.migrate import migrate
from app.market.matrix import MarketMatrix
from app.sinks.copy import CANDLES, METRICS, CopyTable
from app.sinks.metric_rows import TIMEFRAME_NAMES, concatenate_metric_rows, metric_rows
from app.times import utc
from benchmarks.measure import load_candles
from tests.support.market_data import ALTCOINS_2021, FULL_2024, market_data_dir
from tests.support.timescale_server import timescaledb, timescaledb_programs

DAY_MINUTES: Final = 1_440
PRICES: Final = ("open", "high", "low", "close")
ROWS_OF_A_STATEMENT: Final = 100
COMPRESS = "SELECT public.compress_chunk(chunk) FROM public.show_chunks(%s::regclass) AS chunk"
SIZES = """
    SELECT sum(before_compression_total_bytes), sum(after_compression_total_bytes)
    FROM public.chunk_compression_stats(%s::regclass)
"""


def measure(connection: psycopg.Connection[Any], name: str, file: Path, symbols: int) -> None:
    candles = load_candles(file, symbols, 2 * DAY_MINUTES * symbols)
    first = int(candles.open_time_ms.min())
    warm = candles.open_time_ms < first + DAY_MINUTES * MINUTE_MS
    day = candles.take(~warm)
    keys = [day.symbol_of(row) for row in range(len(day))], times(day.open_time_ms)
    store(connection, CANDLES, keys, np.column_stack([getattr(day, name) for name in CANDLES.values]))
    rows = metrics_of(candles.take(warm), day)
    metric_keys = (
        [rows.symbols[index] for index in rows.symbol_index],
        [TIMEFRAME_NAMES[index] for index in rows.timeframe],
        times(rows.time_ms),
    )
    store(connection, METRICS, metric_keys, rows.values)
    for table, stored in ((CANDLES.name, len(day)), (METRICS.name, len(rows))):
        before, after = compressed(connection, table)
        print(
            f"{name}, {table}: {stored:,} rows, {before / 1e6:.1f} to {after / 1e6:.1f} MB, "
            f"{before / stored:.0f} to {after / stored:.0f} bytes a row, {before / after:.1f} times"
        )
        connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(table)))


def compressed(connection: psycopg.Connection[Any], table: str) -> tuple[float, float]:
    """Compress the table's chunks; return their bytes before and after."""
    connection.execute(COMPRESS, (table,))
    found = connection.execute(SIZES, (table,)).fetchone()
    assert found is not None
    return float(found[0]), float(found[1])


def measure_ways(connection: psycopg.Connection[Any], name: str, file: Path, symbols: int) -> None:
    """Print what three days of candles take in other ways."""
    candles = load_candles(file, symbols, 3 * DAY_MINUTES * symbols)
    keys = [candles.symbol_of(row) for row in range(len(candles))], times(candles.open_time_ms)
    values = np.column_stack([getattr(candles, name) for name in CANDLES.values]).astype(np.float64)
    whole, ticks = dict.fromkeys(PRICES, "bigint"), with_ticks(candles, values)
    for label, chunk, types, stored in (
        ("as they are", "1 day", {}, values),
        ("as they are", "7 days", {}, values),
        ("prices in ticks", "1 day", whole, ticks),
        ("decimal numbers", "1 day", dict.fromkeys(CANDLES.values, "numeric"), values),
    ):
        kinds = dict.fromkeys(CANDLES.values, "double precision") | {"trades": "bigint"} | types
        columns = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        for statement in (
            f"CREATE TABLE way (time timestamptz, symbol text, {columns}, PRIMARY KEY (symbol, time))",
            f"SELECT public.create_hypertable('way'::regclass, 'time', chunk_time_interval => '{chunk}'::interval, "
            "create_default_indexes => false)",
            "ALTER TABLE way SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol')",
        ):
            connection.execute(statement.encode())
        store(connection, replace(CANDLES, name="way"), keys, stored, tuple(kinds.values()))
        before, after = compressed(connection, "way")
        print(
            f"{name}, {label}, chunks of {chunk}: {before / len(values):.0f} to {after / len(values):.0f} bytes a row, "
            f"{before / after:.1f} times"
        )
        connection.execute("DROP TABLE way")


def with_ticks(candles: CandleBatch, values: FloatArray) -> FloatArray:
    """Return the values with each symbol's prices in units of its smallest decimal."""
    ticks, prices = values.copy(), [CANDLES.values.index(name) for name in PRICES]
    for symbol in range(len(candles.symbols)):
        cells = np.ix_(candles.symbol_index == symbol, prices)
        scale = next(
            10.0**n for n in range(16) if (np.rint(values[cells] * 10.0**n) / 10.0**n == values[cells]).all()
        )
        ticks[cells] = np.rint(values[cells] * scale)
    return ticks


def metrics_of(warm: CandleBatch, day: CandleBatch) -> Any:
    matrix = MarketMatrix()
    matrix.restore_minutes(warm)
    minutes = np.unique(day.open_time_ms)
    return concatenate_metric_rows(
        [metric_rows(matrix.update(day.take(day.open_time_ms == minute))) for minute in minutes]
    )


def times(values_ms: Sequence[int] | np.ndarray[Any, Any]) -> list[Any]:
    return [utc(int(value)) for value in values_ms]


def store(
    connection: psycopg.Connection[Any],
    table: CopyTable,
    keys: Sequence[list[Any]],
    values: FloatArray,
    kinds: Sequence[str] = (),
) -> None:
    """Store rows by INSERT, because a COPY ends this server. kinds: the types of the values, if not doubles."""
    kinds = kinds or ("double precision",) * len(table.values)
    types = ["text"] * (len(keys) - 1) + ["timestamptz", *kinds]
    arrays = sql.SQL(", ").join(sql.SQL("%s::{}[]").format(sql.SQL(kind)) for kind in types)
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    statement = sql.SQL("INSERT INTO {} ({}) SELECT * FROM unnest({})").format(
        sql.Identifier(table.name), columns, arrays
    )
    for start in range(0, len(values), ROWS_OF_A_STATEMENT):
        part = slice(start, start + ROWS_OF_A_STATEMENT)
        block = values[part]
        numbers = [
            [None if np.isnan(x) else int(x) if kind == "bigint" else float(x) for x in column]
            for kind, column in zip(kinds, block.T, strict=True)
        ]
        connection.execute(statement, [*(key[part] for key in keys), *numbers])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--symbols", type=int, default=20, help="of 2021, of 91 (default 20)")
    parser.add_argument("--ways", action="store_true", help="other ways to store candles, instead")
    given = parser.parse_args()
    began_s = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        timescaledb(timescaledb_programs(), Path(folder)) as settings,
    ):
        migrate(settings.postgres())
        with psycopg.connect(
            connection_url(settings.postgres()), autocommit=True, prepare_threshold=None
        ) as connection:
            for name, file, count in (("2021", ALTCOINS_2021, given.symbols), ("2024", FULL_2024, 8)):
                (measure_ways if given.ways else measure)(connection, name, market_data_dir() / file, count)
    print(f"in {time.monotonic() - began_s:.0f} s")


if __name__ == "__main__":
    main()
