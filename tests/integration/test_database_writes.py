"""Writing candles, metrics and alerts: what is stored, and that repeating it is harmless."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

import numpy as np
import psycopg
import pyarrow.parquet as pq
import pytest
from psycopg import AsyncConnection

from app.candles.batch import MINUTE_MS, CandleBatch, concatenate
from app.database.candles.minutes import load_minutes
from app.database.connection import connection_url, open_pool
from app.market.fields import METRIC_COLUMNS
from app.settings import Settings
from app.sinks.copy import write_alerts, write_candles, write_metrics
from app.sinks.metric_rows import VALUE_COLUMNS
from tests.support.database import MIDNIGHT_MS, alert, candles, metrics, migrated, moment, rows_of
from tests.support.eventually import eventually
from tests.support.market_data import FULL_2024, market_data_dir

VALUES = ("open", "high", "low", "close", "volume", "quote_volume", "trades")
TAKER_VALUES = ("taker_buy_volume", "taker_buy_quote_volume")


async def stored_candles(connection: AsyncConnection) -> list[dict[str, object]]:
    return await rows_of(connection, "candles_1m", "time, symbol")


def expected_rows(batch: CandleBatch) -> list[dict[str, object]]:
    rows = [
        {"time": moment(int(batch.open_time_ms[row])), "symbol": batch.symbol_of(row)}
        | {name: getattr(batch, name)[row].item() for name in (*VALUES, *TAKER_VALUES)}
        for row in range(len(batch))
    ]
    return sorted(rows, key=lambda row: (row["time"], row["symbol"]))


async def test_closed_candles_are_stored_as_they_are_and_forming_ones_are_not(settings: Settings) -> None:
    closed = np.arange(40) % 4 != 0
    batch = candles(["AUSDT", "1000BONKUSDT"], 20, closed=closed)
    async with migrated(settings) as connection:
        assert await write_candles(connection, batch) == 30
        assert await stored_candles(connection) == expected_rows(batch.take(closed))


async def test_a_real_market_comes_back_bit_by_bit(settings: Settings) -> None:
    table = pq.read_table(market_data_dir() / FULL_2024)
    symbols, index = np.unique(table["symbol"].to_numpy(), return_inverse=True)
    columns = {name: table[name].to_numpy() for name in ("open_time_ms", *VALUES)}
    rows = len(index)
    batch = replace(
        candles(["AUSDT"], rows), symbols=tuple(symbols), symbol_index=index.astype(np.int32), **columns
    )
    first_ms, last_ms = int(batch.open_time_ms.min()), int(batch.open_time_ms.max())
    async with migrated(settings) as connection:
        assert await write_candles(connection, batch) == rows
        found = await load_minutes(connection, symbols.tolist(), first_ms, last_ms + 1)
    order = np.lexsort((batch.symbol_index, batch.open_time_ms))
    for name in ("symbol_index", "open_time_ms", *VALUES):
        np.testing.assert_array_equal(getattr(found, name), getattr(batch, name)[order], err_msg=name)


async def test_taker_volumes_come_back_and_unknown_ones_as_null(settings: Settings) -> None:
    batch = candles(["AUSDT"], 4)
    batch.taker_buy_volume[1] = batch.taker_buy_quote_volume[2] = np.nan
    async with migrated(settings) as connection:
        await write_candles(connection, batch)
        stored = await stored_candles(connection)
        found = await load_minutes(connection, ["AUSDT"], MIDNIGHT_MS, MIDNIGHT_MS + 4 * MINUTE_MS)
    assert (stored[1]["taker_buy_volume"], stored[2]["taker_buy_quote_volume"]) == (None, None)
    for name in TAKER_VALUES:
        np.testing.assert_array_equal(getattr(found, name), getattr(batch, name), err_msg=name)


async def test_a_batch_of_forming_candles_writes_nothing(settings: Settings) -> None:
    batch = candles(["AUSDT"], 3, closed=np.zeros(3, np.bool_))
    async with migrated(settings) as connection:
        assert await write_candles(connection, batch) == 0
        assert await write_metrics(connection, metrics(batch)) == 0


async def test_the_same_candles_again_change_nothing_and_are_not_even_written(settings: Settings) -> None:
    batch = candles(["AUSDT", "BUSDT"], 10)
    async with migrated(settings) as connection:
        await write_candles(connection, batch)
        before = await rows_of(connection, "(SELECT *, xmin::text FROM candles_1m) AS c", "time, symbol")
        await write_candles(connection, batch)
        after = await rows_of(connection, "(SELECT *, xmin::text FROM candles_1m) AS c", "time, symbol")
    assert after == before


async def test_a_correction_replaces_the_minute_and_leaves_the_others(settings: Settings) -> None:
    first = candles(["AUSDT", "BUSDT"], 3, seed=1)
    corrected = candles(["BUSDT"], 1, MIDNIGHT_MS + MINUTE_MS, seed=2)
    async with migrated(settings) as connection:
        await write_candles(connection, first)
        await write_candles(connection, corrected)
        stored = await stored_candles(connection)
    replaced = [row for row in range(len(first)) if row != 3]
    assert stored == expected_rows(concatenate([first.take(np.array(replaced)), corrected]))


async def test_of_one_minute_several_times_in_a_batch_the_last_is_stored(settings: Settings) -> None:
    versions = [candles(["AUSDT", "BUSDT"], 2, seed=seed) for seed in range(3)]
    async with migrated(settings) as connection:
        assert await write_candles(connection, concatenate(versions)) == 4
        assert await stored_candles(connection) == expected_rows(versions[-1])


async def test_a_batch_that_is_partly_stored_already_ends_complete(settings: Settings) -> None:
    """The oldest row is new here, so that only the COPY itself meets the stored ones."""
    everything = candles(["AUSDT", "BUSDT"], 30)
    async with migrated(settings) as connection:
        await write_candles(connection, everything.take(slice(20, 40)))
        await write_candles(connection, everything)
        assert await stored_candles(connection) == expected_rows(everything)


async def test_a_failed_write_stores_nothing(settings: Settings) -> None:
    bad = replace(candles(["AUSDT"], 3), open=np.array([1.0, np.nan, 1.0]))
    async with migrated(settings) as connection:
        with pytest.raises(psycopg.errors.NotNullViolation):
            await write_candles(connection, bad)
        assert await stored_candles(connection) == []


async def test_metrics_are_stored_by_bar_with_nan_as_null(settings: Settings) -> None:
    batch = metrics(candles(["AUSDT"], 5))
    missing = METRIC_COLUMNS.index("rsi_14_5m")
    batch.values[:, missing] = np.nan
    async with migrated(settings) as connection:
        assert await write_metrics(connection, batch) == 6
        stored = await rows_of(connection, "metrics_calculated", "timeframe, time")
    five = stored[-1]
    last = dict(zip(METRIC_COLUMNS, batch.values[-1].tolist(), strict=True))
    assert [(row["timeframe"], row["time"]) for row in stored] == [
        *(("1m", moment(MIDNIGHT_MS + minute * MINUTE_MS)) for minute in range(5)),
        ("5m", moment(MIDNIGHT_MS)),
    ]
    assert five["rsi_14"] is None
    assert five["volume"] == last["base_volume_5m"]
    assert five["bubble_size"] == last["bubble_size_5m"]
    assert {name for name in VALUE_COLUMNS if five[name] is None} == {
        "rsi_14", "vwap_day", "vwap_week", "high_10m", "low_10m",
        "ichimoku_conversion", "ichimoku_base", "ichimoku_span_a", "ichimoku_span_b",
    }  # fmt: skip


async def test_recomputed_metrics_replace_the_earlier_ones_also_by_null(settings: Settings) -> None:
    minutes = candles(["AUSDT", "BUSDT"], 15)
    first, second = metrics(minutes, seed=1), metrics(minutes, seed=2)
    second.values[:, METRIC_COLUMNS.index("vwap_15m")] = np.nan
    async with migrated(settings) as connection:
        await write_metrics(connection, second)
        expected = await rows_of(connection, "metrics_calculated", "symbol, timeframe, time")
        await connection.execute("TRUNCATE metrics_calculated")
        await write_metrics(connection, first)
        await write_metrics(connection, second)
        assert await rows_of(connection, "metrics_calculated", "symbol, timeframe, time") == expected


async def test_an_alert_is_stored_once_with_its_first_seq(settings: Settings) -> None:
    async with migrated(settings) as connection:
        assert await write_alerts(connection, [alert(5), alert(6)]) == 2
        again = replace(alert(5, price=1.0), seq=9)
        assert await write_alerts(connection, [again, alert(7), alert(7)]) == 1
        stored = await rows_of(connection, "alert_history", "seq")
    assert [row["seq"] for row in stored] == [5, 6, 7]
    given = alert(5).as_dict()
    assert stored[0] == {
        "id": UUID(given["id"]),
        "time": moment(MIDNIGHT_MS + 5_000),
        "seq": 5,
        **{name: given[name] for name in ("symbol", "rule_type", "rule_version", "severity", "description")},
        **{name: given[name] for name in ("price", "metadata", "timings", "backfilled")},
        "shadow": False,
    }


async def test_writers_at_once_agree(settings: Settings) -> None:
    """Two connections hold the same new rows; the second meets them while the first has not committed."""
    batch = candles(["AUSDT", "BUSDT"], 50)
    async with (
        migrated(settings) as first,
        await AsyncConnection.connect(connection_url(settings.postgres()), autocommit=True) as second,
    ):
        async with first.transaction():
            await write_candles(first, batch.take(slice(50, 100)))
            writing = asyncio.create_task(write_candles(second, batch))
            await eventually(lambda: waits_for_a_lock(first, second))
        assert await writing == 100
        assert await stored_candles(first) == expected_rows(batch)


async def waits_for_a_lock(observer: AsyncConnection, observed: AsyncConnection) -> bool:
    query = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
    row = await (await observer.execute(query, (observed.info.backend_pid,))).fetchone()
    return row == (True,)


async def test_the_write_pool_commits_durably_on_a_server_that_would_not(settings: Settings) -> None:
    async with await open_pool(settings.postgres(), durable=True) as pool, pool.connection() as connection:
        row = await (await connection.execute("SHOW synchronous_commit")).fetchone()
    assert row == ("on",)
