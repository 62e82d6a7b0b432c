"""Set-up, late rows, retention and reads on TimescaleDB, where `screener migrate` finds it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import CollectorRegistry
from psycopg import AsyncConnection, Connection, sql
from structlog.testing import capture_logs

from app.candles.batch import MINUTE_MS, CandleBatch
from app.candles.intervals import DAY_MS, INTERVALS
from app.database.candles.klines import klines
from app.database.candles.minutes import load_minutes
from app.database.connection import connection_url, open_pool
from app.database.migrate import migrate
from app.database.timescale import timescale_mode
from app.settings import Settings
from app.sinks.copy import CANDLES, METRICS, CopyTable
from app.sinks.retention import Kept, delete_older, delete_older_bars, watch_storage
from app.sinks.rollups import roll_up
from app.telemetry import retention_metrics
from app.wire.faults import is_of_the_data, time_heals
from tests.support.database import MIDNIGHT_MS, candles, moment
from tests.support.metric_values import value_of
from tests.support.timescale_server import timescaledb

LAYOUT = """
    SELECT hypertable_name::text, array_agg(attname::text ORDER BY segmentby_column_index, orderby_column_index)
    FROM timescaledb_information.compression_settings GROUP BY 1 ORDER BY 1
"""
CHUNK_LENGTHS = (
    "SELECT hypertable_name::text, time_interval::text FROM timescaledb_information.dimensions ORDER BY 1"
)
JOBS = """
    SELECT job_id, proc_name::text, hypertable_name::text FROM timescaledb_information.jobs
    WHERE hypertable_name IS NOT NULL ORDER BY 2, 3
"""
DAYS = "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'candles_1m'"
BARS = ["candles_15m", "candles_1d", "candles_1h", "candles_1m", "candles_4h", "candles_5m"]
"""In the order of their names."""
EXPECTED_LAYOUT = [
    *((table, ["symbol", "time"]) for table in BARS),
    ("metrics_calculated", ["symbol", "timeframe", "time"]),
]
EXPECTED_LENGTHS = [
    *zip(BARS, ["21 days", "2016 days", "84 days", "1 day", "336 days", "7 days"], strict=True),
    ("metrics_calculated", "1 day"),
]


@pytest.fixture(scope="module")
def server(timescaledb_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with timescaledb(timescaledb_folder, tmp_path_factory.mktemp("timescaledb")) as settings:
        migrate(settings.postgres())
        yield settings


@pytest.fixture
def settings(server: Settings) -> Iterator[Settings]:
    """The migrated server, without rows."""
    yield server
    with connected(server) as connection:
        connection.execute(f"TRUNCATE metrics_calculated, candle_symbols, {', '.join(BARS)}".encode())


def connected(settings: Settings) -> Connection[Any]:
    return psycopg.connect(connection_url(settings.postgres()), autocommit=True, prepare_threshold=None)


async def reading(settings: Settings) -> AsyncConnection:
    return await AsyncConnection.connect(
        connection_url(settings.postgres()), autocommit=True, prepare_threshold=None
    )


def fill(connection: Connection[Any], symbols: int, minutes: int, start_ms: int = MIDNIGHT_MS) -> None:
    """Candles of symbols S0, S1 and so on, as the sink upserts them."""
    rows = sql.SQL(
        "INSERT INTO {} (symbol, time, open, high, low, close, volume, quote_volume, trades) "
        "SELECT 'S' || s, %s + m * interval '1 minute', 1, 2, 0.5, 1.5, 10, 20, 3 "
        "FROM generate_series(0, %s) AS m, generate_series(0, %s) AS s"
    )
    upsert(connection, CANDLES, rows, moment(start_ms), minutes - 1, symbols - 1)
    connection.execute(
        "INSERT INTO candle_symbols SELECT symbol, max(time)::date FROM candles_1m GROUP BY 1 "
        "ON CONFLICT (symbol) DO UPDATE SET newest_day = excluded.newest_day"
    )


def upsert(connection: Connection[Any], table: CopyTable, rows: sql.SQL, *parameters: object) -> None:
    """What the sink sends, with an INSERT in the place of its COPY."""
    with connection.transaction():
        connection.execute(table.statement("stage"))
        connection.execute(rows.format(sql.Identifier(f"staged_{table.name}")), parameters)
        connection.execute(table.statement("upsert"))


def compress(connection: Connection[Any], table: str = "candles_1m") -> None:
    connection.execute("SELECT public.compress_chunk(c) FROM public.show_chunks(%s::regclass) AS c", (table,))


def test_migrate_makes_compressed_hypertables_once(settings: Settings) -> None:
    with connected(settings) as connection:
        before = connection.execute(JOBS).fetchall()
        assert connection.execute(LAYOUT).fetchall() == EXPECTED_LAYOUT
        assert connection.execute(CHUNK_LENGTHS).fetchall() == EXPECTED_LENGTHS
    assert [job[1:] for job in before] == [
        *(("policy_compression", table) for table in BARS),
        ("policy_compression", "metrics_calculated"),
    ]
    with capture_logs() as logs:
        assert migrate(settings.postgres()) == []
    assert logs == []
    with connected(settings) as connection:
        assert connection.execute(JOBS).fetchall() == before


async def test_compression_is_reported(settings: Settings) -> None:
    async with await reading(settings) as connection:
        assert await timescale_mode(connection) == "compressed"


def test_the_layout_of_earlier_versions_is_replaced(settings: Settings) -> None:
    with connected(settings) as connection:
        fill(connection, 1, 60)
        compress(connection)
        for table in ("candles_1m", "metrics_calculated"):
            connection.execute("SELECT public.set_chunk_time_interval(%s, interval '1 hour')", (table,))
            connection.execute("SELECT public.remove_compression_policy(%s::regclass)", (table,))
            connection.execute("SELECT public.add_compression_policy(%s, interval '1 hour')", (table,))
            connection.execute("SELECT public.add_retention_policy(%s, interval '48 hours')", (table,))
        connection.execute(
            "ALTER TABLE metrics_calculated SET (timescaledb.compress_segmentby = 'symbol, timeframe', "
            "timescaledb.compress_orderby = 'time')"
        )
    migrate(settings.postgres())
    with connected(settings) as connection:
        assert connection.execute(LAYOUT).fetchall() == EXPECTED_LAYOUT
        assert connection.execute(CHUNK_LENGTHS).fetchall() == EXPECTED_LENGTHS
        jobs = {job[1] for job in connection.execute(JOBS)}
        assert jobs == {"policy_compression"}
        assert connection.execute("SELECT count(*) FROM candles_1m").fetchone() == (60,)


def test_an_upgrade_adds_taker_volumes_to_compressed_minutes(settings: Settings) -> None:
    with connected(settings) as connection:
        connection.execute("DELETE FROM schema_migrations WHERE migration_id = '0010_taker_volumes'")
        for column in ("taker_buy_volume", "taker_buy_quote_volume"):
            connection.execute(f"ALTER TABLE candles_1m DROP COLUMN {column}".encode())
        connection.execute(
            "INSERT INTO candles_1m SELECT %s + m * interval '1 minute', 'S0', 1, 2, 0.5, 1.5, 10, 20, 3 "
            "FROM generate_series(0, 59) AS m",
            (moment(MIDNIGHT_MS),),
        )
        compress(connection)
    assert migrate(settings.postgres()) == ["0010_taker_volumes"]
    late = sql.SQL(
        "INSERT INTO {} (symbol, time, open, high, low, close, volume, quote_volume, trades, taker_buy_volume) "
        "VALUES ('S0', %s, 1, 2, 0.5, 1.5, 10, 20, 3, 4)"
    )
    with connected(settings) as connection:
        upsert(connection, CANDLES, late, moment(MIDNIGHT_MS))
        found = connection.execute("SELECT taker_buy_volume, count(*) FROM candles_1m GROUP BY 1 ORDER BY 1")
        assert found.fetchall() == [(4, 1), (None, 59)]


def test_late_rows_reach_compressed_chunks_once(settings: Settings) -> None:
    late = sql.SQL(
        "INSERT INTO {} (symbol, time, open, high, low, close, volume, quote_volume, trades) "
        "VALUES ('S1', %s, 7, 7, 7, 7, 7, 7, 7)"
    )
    with connected(settings) as connection:
        fill(connection, 3, 100)
        compress(connection)
        for minute in (50, 100, 50):
            upsert(connection, CANDLES, late, moment(MIDNIGHT_MS + minute * MINUTE_MS))
        found = connection.execute("SELECT count(*), count(*) FILTER (WHERE close = 7) FROM candles_1m")
        assert found.fetchone() == (301, 2)


def test_late_bars_reach_compressed_chunks(settings: Settings) -> None:
    bars = sql.SQL(
        "INSERT INTO {} (symbol, timeframe, time, close) SELECT 'S0', t, %s + m * interval '1 minute', %s "
        "FROM unnest(ARRAY['1m', '5m']) AS t, generate_series(0, 99) AS m"
    )
    with connected(settings) as connection:
        upsert(connection, METRICS, bars, moment(MIDNIGHT_MS), 1)
        compress(connection, "metrics_calculated")
        upsert(connection, METRICS, bars, moment(MIDNIGHT_MS + 50 * MINUTE_MS), 2)
        found = connection.execute("SELECT close, count(*) FROM metrics_calculated GROUP BY 1 ORDER BY 1")
        assert found.fetchall() == [(1, 100), (2, 200)]


def test_a_limit_of_decompression_is_a_fault_of_the_data(settings: Settings) -> None:
    late = sql.SQL(
        "INSERT INTO {} (symbol, time, open, high, low, close, volume, quote_volume, trades) "
        "VALUES ('S1', %s, 7, 7, 7, 7, 7, 7, 7)"
    )
    with connected(settings) as connection:
        fill(connection, 3, 100)
        compress(connection)
        limit = "timescaledb.max_tuples_decompressed_per_dml_transaction"
        connection.execute("SELECT set_config(%s, '10', false)", (limit,))
        try:
            with pytest.raises(psycopg.OperationalError) as refused:
                upsert(connection, CANDLES, late, moment(MIDNIGHT_MS))
        finally:
            connection.execute("SELECT set_config(%s, '100000', false)", (limit,))
    assert refused.value.sqlstate == "53400"
    assert is_of_the_data(refused.value)
    assert not time_heals(refused.value)


async def test_bars_in_compressed_chunks_are_corrected_and_made_of_no_less(settings: Settings) -> None:
    """A late minute when all are stored, and one when the others have expired."""
    late = sql.SQL(
        "INSERT INTO {} (symbol, time, open, high, low, close, volume, quote_volume, trades) "
        "VALUES ('S0', %s, 1, 9, 0.5, 1.5, 10, 20, 3)"
    )
    minutes = candles(["S0"], 600)
    with connected(settings) as connection:
        fill(connection, 1, 600)
        connection.execute("DELETE FROM candles_1m WHERE time = %s", (moment(MIDNIGHT_MS + 7 * MINUTE_MS),))
    await rolled(settings, minutes)
    with connected(settings) as connection:
        for table in ("candles_5m", "candles_15m", "candles_1h", "candles_4h"):
            compress(connection, table)
    for minute, expected in ((2, [5, 4, 5]), (7, [5, 5, 5])):
        with connected(settings) as connection:
            upsert(connection, CANDLES, late, moment(MIDNIGHT_MS + minute * MINUTE_MS))
        await rolled(settings, minutes.take(slice(minute, minute + 1)))
        with connected(settings) as connection:
            fives = connection.execute(
                "SELECT high, minutes FROM candles_5m ORDER BY time LIMIT 3"
            ).fetchall()
            connection.execute("TRUNCATE candles_1m")
        assert [row[1] for row in fives] == expected
        assert fives[0][0] == 9
    with connected(settings) as connection:
        found = connection.execute(
            "SELECT high, minutes, volume, trades FROM candles_4h ORDER BY time"
        ).fetchall()
    assert found == [(9, 240, 2400, 720), (2, 240, 2400, 720)]


async def rolled(settings: Settings, minutes: CandleBatch) -> None:
    async with await reading(settings) as connection, connection.transaction():
        await roll_up(connection, minutes)


async def test_expired_chunks_of_bars_are_dropped(settings: Settings) -> None:
    with connected(settings) as connection:
        fill(connection, 1, 10)
    await rolled(settings, candles(["S0"], 10))
    async with await reading(settings) as connection:
        assert await delete_older_bars(connection, MIDNIGHT_MS) == 0
        assert await delete_older_bars(connection, MIDNIGHT_MS + 30 * DAY_MS) == 1


async def test_the_sinks_may_decompress_a_minute_of_all_symbols(settings: Settings) -> None:
    async with (
        await open_pool(settings.postgres(), max_size=1, durable=True) as pool,
        pool.connection() as connection,
    ):
        shown = await connection.execute("SHOW timescaledb.max_tuples_decompressed_per_dml_transaction")
        assert await shown.fetchone() == ("2000000",)
        await connection.execute("RESET timescaledb.max_tuples_decompressed_per_dml_transaction")


async def test_expired_chunks_are_dropped_and_late_ones_are_shown(settings: Settings) -> None:
    shown = retention_metrics(CollectorRegistry())
    overdue_s = shown.overdue_s.labels(table="candles_1m")
    with connected(settings) as connection:
        for day in range(3):
            fill(connection, 2, 10, MIDNIGHT_MS + day * DAY_MS)
        connection.execute("INSERT INTO candle_symbols VALUES ('GONE', '2023-11-15')")
        assert connection.execute(DAYS).fetchone() == (3,)
    before_ms = MIDNIGHT_MS + 2 * DAY_MS + 600_000
    kept = Kept(2, 0)
    async with await reading(settings) as connection:
        await watch_storage(connection, shown, kept, before_ms + 2 * 3_600_000)
        assert value_of(overdue_s) == DAY_MS / 1000 + 600
        assert await delete_older(connection, before_ms) == 2
        await watch_storage(connection, shown, kept, before_ms + 2 * 3_600_000)
        assert value_of(overdue_s) == 0
    with connected(settings) as connection:
        assert connection.execute(DAYS).fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM candle_symbols").fetchone() == (2,)


async def test_jobs_that_never_run_are_shown(settings: Settings) -> None:
    """This server has no background workers."""
    shown = retention_metrics(CollectorRegistry())
    async with await reading(settings) as connection:
        await watch_storage(connection, shown, Kept(0, 0), MIDNIGHT_MS)
    assert value_of(shown.failing_jobs) == 7


async def test_reads_plan_only_the_chunks_of_their_time(settings: Settings) -> None:
    with connected(settings) as connection:
        for day in range(20):
            fill(connection, 2, 5, MIDNIGHT_MS + day * DAY_MS)
    since_ms = MIDNIGHT_MS + 10 * DAY_MS
    async with await reading(settings) as connection, connection.transaction(force_rollback=True):
        bars = await klines(connection, "S1", INTERVALS["1m"], 5, since_ms, since_ms + 300_000)
        minutes = await load_minutes(connection, ["S0", "S1"], since_ms, since_ms + DAY_MS)
        # parents, chunks and their indexes that the transaction has locked
        locks = await connection.execute(
            "SELECT count(DISTINCT relation) FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation "
            "WHERE c.relname LIKE '%\\_chunk'"
        )
        chunks = (await locks.fetchone() or (0,))[0]
    assert bars is not None
    assert len(bars) == 5
    assert len(minutes) == 10
    assert chunks <= 2  # of that day, and of the newest


async def test_without_timescales_own_licence_nothing_is_compressed_and_chunks_are_dropped(
    timescaledb_folder: Path, tmp_path: Path
) -> None:
    with timescaledb(timescaledb_folder, tmp_path, licence="apache") as settings:
        with capture_logs() as logs:
            migrate(settings.postgres())
        with connected(settings) as connection:
            assert connection.execute(CHUNK_LENGTHS).fetchall() == EXPECTED_LENGTHS
            assert connection.execute(JOBS).fetchall() == []
            fill(connection, 1, 10)
            dropped = connection.execute(
                "SELECT drop_expired_chunks(%s)", (moment(MIDNIGHT_MS + 2 * DAY_MS),)
            )
            assert dropped.fetchone() == (1,)
        async with await reading(settings) as reader:
            assert await timescale_mode(reader) == "uncompressed"
    told = [(one["event"], one["table"]) for one in logs if one["log_level"] == "warning"]
    assert told == [
        ("timescale_without_compression", "candles_1m"),
        ("timescale_without_compression", "metrics_calculated"),
        *(
            ("timescale_without_compression", f"candles_{length}")
            for length in ("5m", "15m", "1h", "4h", "1d")
        ),
    ]
