"""Candle files: what is read, and what is refused with which words."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.candles.batch import COLUMNS, DTYPES, MINUTE_MS
from app.errors import BadInput
from app.replay.file import by_minutes, read_candles
from tests.support.candle_batches import Candle, batch_of, rows_of
from tests.support.market_data import FULL_2024, market_data_dir

TABLE = pa.table(
    {
        "symbol": ["BBB", "AAA", "BBB", "AAA"],
        "open_time_ms": [120_000, 60_000, 60_000, 120_000],
        "open": [1.0, 2.0, 3.0, 4.0],
        "high": [1.5, 2.5, 3.5, 4.5],
        "low": [0.5, 1.5, 2.5, 3.5],
        "close": [1.25, 2.25, 3.25, 4.25],
        "volume": [10.0, 20.0, 30.0, 40.0],
        "quote_volume": [12.0, None, 99.0, 160.0],
        "trades": [1, 2, None, 4],
    }
)

Write = Callable[[pa.Table], Path]


@pytest.fixture(params=["csv", "parquet", "CSV"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Write:
    def written(table: pa.Table) -> Path:
        path = tmp_path / f"candles.{request.param}"
        if request.param == "parquet":
            pyarrow.parquet.write_table(table, path)
        else:
            pyarrow.csv.write_csv(table, path)
        return path

    return written


def test_candles_come_in_order_of_time_then_as_they_stand(write: Write):
    batch = read_candles(write(TABLE))
    assert rows_of(batch) == [
        Candle("AAA", 1, 2.25),
        Candle("BBB", 1, 3.25),
        Candle("BBB", 2, 1.25),
        Candle("AAA", 2, 4.25),
    ]
    assert batch.trades.tolist() == [2, 0, 1, 4]
    assert batch.event_ts_ms.tolist() == [2 * MINUTE_MS, 2 * MINUTE_MS, 3 * MINUTE_MS, 3 * MINUTE_MS]
    assert {name: getattr(batch, name).dtype for name in COLUMNS} == DTYPES


def test_what_a_file_leaves_out_is_estimated_or_null(write: Write):
    batch = read_candles(write(TABLE))
    assert batch.quote_estimated.tolist() == [True, False, False, False]
    assert batch.quote_volume.tolist() == [pytest.approx(20 * (2.5 + 1.5 + 2.25) / 3), 99.0, 12.0, 160.0]
    assert np.isnan(batch.taker_buy_volume).all()
    short = read_candles(write(TABLE.drop_columns(["quote_volume", "trades"])))
    assert short.quote_estimated.all()
    assert short.trades.tolist() == [0, 0, 0, 0]


def test_the_exchange_of_the_file_is_kept_and_there_may_be_but_one(write: Write):
    assert read_candles(write(TABLE)).exchange == "binance"
    assert read_candles(write(TABLE.append_column("exchange", pa.array(["bybit"] * 4)))).exchange == "bybit"
    mixed = write(TABLE.append_column("exchange", pa.array(["bybit", "okx", "okx", "okx"])))
    with pytest.raises(BadInput, match="more than one exchange: bybit, okx"):
        read_candles(mixed)


def test_missing_columns_are_all_named(write: Write):
    path = write(TABLE.drop_columns(["close", "open_time_ms"]))
    with pytest.raises(BadInput, match=f"{path.name} lacks the columns open_time_ms, close"):
        read_candles(path)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("open_time_ms", ["noon", "noon", "noon", "noon"]),
        ("open_time_ms", [60_000, None, 60_000, 60_000]),
        ("close", ["one", "two", "three", "four"]),
    ],
)
def test_a_column_that_does_not_fit_is_refused(write: Write, column: str, values: list[object]):
    path = write(TABLE.set_column(TABLE.column_names.index(column), column, pa.array(values)))
    with pytest.raises(BadInput, match="does not fit"):
        read_candles(path)


def test_a_row_without_symbol_is_refused(tmp_path: Path):
    path = tmp_path / "candles.parquet"
    pyarrow.parquet.write_table(TABLE.set_column(0, "symbol", pa.array(["AAA", None, "BBB", "BBB"])), path)
    with pytest.raises(BadInput, match="nothing in some rows of symbol"):
        read_candles(path)


def test_dictionary_encoded_symbols_are_read(tmp_path: Path):
    path = tmp_path / "candles.parquet"
    pyarrow.parquet.write_table(
        TABLE.set_column(0, "symbol", TABLE.column("symbol").dictionary_encode()), path
    )
    assert [row.symbol for row in rows_of(read_candles(path))] == ["AAA", "BBB", "BBB", "AAA"]


def test_an_empty_file_of_candles_has_none(write: Write):
    batch = read_candles(write(TABLE.slice(0, 0)))
    assert len(batch) == 0
    assert list(by_minutes(batch, 1)) == []


@pytest.mark.parametrize("name", ["candles.csv", "candles.parquet"])
def test_a_file_that_is_none_is_refused_by_name(tmp_path: Path, name: str):
    with pytest.raises(BadInput, match=name):
        read_candles(tmp_path / name)
    (tmp_path / name).write_bytes(b"\x00\xff" * 50)
    with pytest.raises(BadInput, match=name):
        read_candles(tmp_path / name)


def test_a_real_market_file_is_read_whole():
    path = market_data_dir() / FULL_2024
    batch = read_candles(path)
    assert len(batch) == pyarrow.parquet.read_metadata(path).num_rows
    assert (np.diff(batch.open_time_ms) >= 0).all()


@given(st.lists(st.integers(0, 12), max_size=40).map(sorted), st.integers(1, 10))
def test_parts_are_the_fewest_whole_minutes_that_reach_the_wanted_rows(minutes: list[int], at_least: int):
    rows = [Candle(f"S{at}", minute) for at, minute in enumerate(minutes)]
    parts = [rows_of(part) for part in by_minutes(batch_of(rows), at_least)]
    assert [row for part in parts for row in part] == rows
    assert all(parts)
    for part, following in itertools.pairwise(parts):
        assert part[-1].minute < following[0].minute
        assert len(part) >= at_least
        assert len([row for row in part if row.minute < part[-1].minute]) < at_least
    if len(parts) > 0:
        assert len([row for row in parts[-1] if row.minute < parts[-1][-1].minute]) < at_least
