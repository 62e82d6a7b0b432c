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

from app.candle_files.reader import by_minutes, read_candle_file, read_candles
from app.candles.batch import COLUMNS, DTYPES, MINUTE_MS
from app.errors import BadInput
from tests.support.candle_batches import Candle, batch_of, rows_of
from tests.support.market_data import FULL_2024, market_data_dir

START_MS = 1_704_067_200_000
"""2024-01-01 00:00 UTC."""
START = START_MS // MINUTE_MS

TABLE = pa.table(
    {
        "symbol": ["BBB", "AAA", "BBB", "AAA"],
        "open_time_ms": [START_MS + MINUTE_MS, START_MS, START_MS, START_MS + MINUTE_MS],
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
        Candle("AAA", START, 2.25),
        Candle("BBB", START, 3.25),
        Candle("BBB", START + 1, 1.25),
        Candle("AAA", START + 1, 4.25),
    ]
    assert batch.trades.tolist() == [2, 0, 1, 4]
    assert batch.event_ts_ms.tolist() == [START_MS + minutes * MINUTE_MS for minutes in (1, 1, 2, 2)]
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
    ("column", "values", "said"),
    [
        ("open_time_ms", ["noon"] * 4, "4 of 4 rows rejected as bad_time"),
        ("open_time_ms", [60_000] * 4, "4 of 4 rows rejected as bad_time"),
        ("close", ["one", "two", "three", "four"], "4 of 4 rows rejected as bad_type"),
        ("symbol", ["", "?", "A/B/C", "x" * 99], "4 of 4 rows rejected as bad_symbol"),
        ("open_time_ms", [True] * 4, "invalid column: open_time_ms is of type bool"),
    ],
)
def test_a_column_of_which_nothing_fits_is_refused_by_name(
    write: Write, column: str, values: list[object], said: str
):
    path = write(with_column(column, values))
    with pytest.raises(BadInput, match=said):
        read_candles(path)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("open_time_ms", None, "bad_time"),
        ("symbol", "", "bad_symbol"),
        ("symbol", None, "bad_symbol"),
        ("close", None, "not_finite"),
        ("volume", float("inf"), "not_finite"),
        ("low", 0.0, "price_not_positive"),
        ("volume", -1.0, "negative"),
        ("high", 0.1, "high_low"),
        ("open_time_ms", START_MS + 1, "misaligned"),
        ("open_time_ms", 4_000_000_020_000, "future"),
        ("trades", 1.5, "bad_type"),
        ("trades", 1e300, "bad_type"),
        ("trades", float("inf"), "bad_type"),
    ],
)
def test_a_row_that_is_no_candle_costs_that_row_and_is_counted_by_its_reason(
    write: Write, column: str, value: object, reason: str
):
    values = TABLE.column(column).to_pylist()
    values[1] = value
    read = read_candle_file(write(with_column(column, values)))
    assert len(read.candles) == 3
    assert read.report.refused == {reason: 1}
    assert any(f"1 of 4 rows rejected as {reason}: " in line for line in read.report.lines())


TIMES_OF_THE_TABLE = [START_MS // 1000 + seconds for seconds in (60, 0, 0, 60)]
ISO = ["2024-01-01T00:01:00Z", "2024-01-01 00:00:00", "2024-01-01T01:00:00+01:00", "2024-01-01T00:01"]


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        (pa.array(TIMES_OF_THE_TABLE), "seconds"),
        (pa.array([float(time) for time in TIMES_OF_THE_TABLE]), "seconds"),
        (pa.array([time * 1000 for time in TIMES_OF_THE_TABLE]), None),
        (pa.array([time * 1000.0 for time in TIMES_OF_THE_TABLE]), None),
        (pa.array([time * 10**6 for time in TIMES_OF_THE_TABLE]), "microseconds"),
        (pa.array([time * 10**9 for time in TIMES_OF_THE_TABLE]), "nanoseconds"),
        (pa.array([str(time * 10**6) for time in TIMES_OF_THE_TABLE]), "microseconds"),
        (pa.array(ISO), None),
        (pa.array(TIMES_OF_THE_TABLE).cast(pa.timestamp("s")), None),
        (pa.array([time * 1000 for time in TIMES_OF_THE_TABLE]).cast(pa.timestamp("ms", "UTC")), None),
        (
            pa.array([time * 10**6 for time in TIMES_OF_THE_TABLE]).cast(pa.timestamp("us", "Asia/Tokyo")),
            None,
        ),
        (pa.array([time * 10**9 for time in TIMES_OF_THE_TABLE]).cast(pa.timestamp("ns", "+05:30")), None),
    ],
)
def test_times_are_recognised_in_any_unit_and_the_unit_is_told(
    tmp_path: Path, times: pa.Array, unit: str | None
):
    path = tmp_path / "candles.parquet"
    pyarrow.parquet.write_table(TABLE.set_column(1, "open_time_ms", times), path)
    read = read_candle_file(path)
    assert rows_of(read.candles) == rows_of(read_candles(written_plainly(tmp_path)))
    told = [f"column open_time_ms holds {unit} in 4 rows"] if unit else []
    assert [line for line in read.report.lines() if "column" in line] == told


def test_times_as_a_csv_writes_them_are_recognised(tmp_path: Path):
    plain = rows_of(read_candles(written_plainly(tmp_path)))
    for times in (
        ISO,
        [f"{time}.0" for time in TIMES_OF_THE_TABLE],
        [time * 10**9 for time in TIMES_OF_THE_TABLE],
    ):
        pyarrow.csv.write_csv(with_column("open_time_ms", times), tmp_path / "candles.csv")
        assert rows_of(read_candles(tmp_path / "candles.csv")) == plain


def test_a_time_of_close_in_microseconds_is_not_taken_for_the_next_minute(tmp_path: Path):
    path = tmp_path / "candles.parquet"
    closes = [float(time + 59) * 10**6 + 999_999 for time in TIMES_OF_THE_TABLE]
    pyarrow.parquet.write_table(with_column("open_time_ms", closes), path)
    with pytest.raises(BadInput, match="4 of 4 rows rejected as misaligned"):
        read_candles(path)


@pytest.mark.parametrize(
    ("step_s", "named"), [(300, "5m"), (900, "15m"), (3600, "1h"), (86_400, "1d"), (1, "1s"), (90, "90s")]
)
def test_candles_that_are_not_of_minutes_are_refused_by_the_name_of_their_interval(
    tmp_path: Path, step_s: int, named: str
):
    path = tmp_path / "candles.parquet"
    pyarrow.parquet.write_table(spaced({"AAA": [step_s * 1000 * at for at in range(20)]}), path)
    with pytest.raises(BadInput, match=f"20 of 20 rows rejected as not_minutes: .*AAA {named}"):
        read_candles(path)


def test_one_symbol_of_other_intervals_costs_no_other_and_gaps_are_no_interval(tmp_path: Path):
    path = tmp_path / "candles.parquet"
    odd = [MINUTE_MS * minute for minute in (0, 2, 5, 11, 13, 30, 31)]
    holes = [MINUTE_MS * minute for minute in range(40) if minute not in (5, 6, 20)]
    five = [5 * MINUTE_MS * at for at in range(40) if at not in (3, 9, 10)]
    pyarrow.parquet.write_table(spaced({"ODD": odd, "HOLES": holes, "FIVE": five}), path)
    read = read_candle_file(path)
    assert set(read.candles.symbols) == {"ODD", "HOLES"}
    assert (read.report.refused, read.report.steps) == ({"not_minutes": len(five)}, {"FIVE": "5m"})
    assert (read.report.missing, read.report.incomplete) == (3 + 25, 2)


def test_rows_out_of_order_repeated_and_changed_are_counted_and_told(tmp_path: Path):
    path = tmp_path / "candles.parquet"
    changed = TABLE.slice(0, 1).set_column(5, "close", pa.array([1.3]))
    pyarrow.parquet.write_table(pa.concat_tables([TABLE, TABLE.slice(1, 1), changed]), path)
    read = read_candle_file(path)
    assert len(read.candles) == 6
    report = read.report
    assert (report.unordered, report.repeated, report.changed, report.missing) == (2, 1, 1, 0)
    told = "\n".join(report.lines())
    for words in ("2 rows are out of order", "1 rows repeat a candle", "1 rows repeat a minute"):
        assert words in told


@pytest.mark.parametrize(
    ("given", "symbol"),
    [
        ("BTC/USDT:USDT", "BTCUSDT"), ("BTC/USDT", "BTCUSDT"), ("BTC-USDT", "BTCUSDT"), ("BTC_USDT", "BTCUSDT"),
        ("BTC-USDT-SWAP", "BTCUSDT"), ("btcusdt", "BTCUSDT"), (" BTCUSDT ", "BTCUSDT"), ("BTCUSDT", "BTCUSDT"),
        ("BTC/USD:BTC", "BTCUSD_PERP"), ("BTC/USDT:USDT-240628", "BTCUSDT_240628"), ("NULL", "NULL"),
        ("BTCUSDT_210924", "BTCUSDT_210924"), ("BTC-26MAR21", "BTC-26MAR21"), ("1000", "1000"),
        ("BTCUSDT.P", "BTCUSDT"),
        ("币安人生USDT", "币安人生USDT"), ("币安人生/USDT:USDT", "币安人生USDT"),
    ],
)  # fmt: skip
def test_a_symbol_has_one_spelling_whoever_wrote_it(write: Write, given: str, symbol: str):
    read = read_candle_file(write(with_column("symbol", [given, "OTHER", given, given])))
    assert set(read.candles.symbols) == {symbol, "OTHER"}
    assert read.report.renamed == ({} if given == symbol else {given: symbol})


def test_two_spellings_of_one_symbol_are_refused_since_they_may_be_two_markets(write: Write):
    path = write(with_column("symbol", ["BTC/USDT", "BTC/USDT:USDT", "BTC/USDT", "X"]))
    with pytest.raises(BadInput, match="BTC/USDT and BTC/USDT:USDT are both BTCUSDT"):
        read_candles(path)


@pytest.mark.parametrize("codec", ["gzip", "bz2", "zstd", "lz4"])
def test_a_compressed_csv_is_read(tmp_path: Path, codec: str):
    path = tmp_path / f"candles.csv.{ {'gzip': 'gz', 'zstd': 'zst'}.get(codec, codec) }"
    with pa.output_stream(path, compression=codec) as file:
        pyarrow.csv.write_csv(TABLE, file)
    assert rows_of(read_candles(path)) == rows_of(read_candles(written_plainly(tmp_path)))


def with_column(name: str, values: list[object]) -> pa.Table:
    return TABLE.set_column(TABLE.column_names.index(name), name, pa.array(values))


def written_plainly(folder: Path) -> Path:
    path = folder / "plain.parquet"
    pyarrow.parquet.write_table(TABLE, path)
    return path


def spaced(minutes: dict[str, list[int]]) -> pa.Table:
    """Flat candles at these times after START_MS, in ms."""
    rows = [(symbol, START_MS + after) for symbol, times in minutes.items() for after in times]
    symbols, times = zip(*rows, strict=True)
    prices = {name: [2.0] * len(rows) for name in ("open", "high", "low", "close", "volume")}
    return pa.table({"symbol": symbols, "open_time_ms": times, **prices})


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
