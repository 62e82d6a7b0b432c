"""Each form of candle file that people have, in small, with its traps."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import math
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.candle_files.names import market_of
from app.candle_files.reader import CandleFiles, ReadSoFar, read_candle_file
from app.candles.batch import COLUMNS, MINUTE_MS, CandleBatch
from app.candles.symbols import plain_symbol
from app.errors import BadInput

START_MS = 1_704_067_200_000
"""2024-01-01 00:00 UTC."""
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore"
)


def kline(minute: int, *, per_ms: int = 1, volume: str = "10.5") -> str:
    """A line of an exchange archive."""
    open_ms = START_MS + minute * MINUTE_MS
    close = (open_ms + MINUTE_MS) * per_ms - 1
    price = 100 + minute
    return (
        f"{open_ms * per_ms},{price},{price + 2},{price - 1},{price + 1},{volume},{close},1050,7,4.5,450.25,0"
    )


def archive(lines: list[str], *, header: bool = False) -> bytes:
    return "\n".join([HEADER, *lines] if header else lines).encode() + b"\n"


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def minutes_of(candles: CandleBatch) -> list[tuple[str, int]]:
    return [
        (candles.symbols[at], (time - START_MS) // MINUTE_MS)
        for at, time in zip(candles.symbol_index.tolist(), candles.open_time_ms.tolist(), strict=True)
    ]


def assert_is_the_archive(candles: CandleBatch, symbol: str = "BTCUSDT", rows: int = 5) -> None:
    assert minutes_of(candles) == [(symbol, minute) for minute in range(rows)]
    assert candles.open.tolist() == [100.0 + minute for minute in range(rows)]
    assert candles.close.tolist() == [101.0 + minute for minute in range(rows)]
    assert candles.volume.tolist() == [10.5] * rows


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("per_ms", [1, 1000])
@pytest.mark.parametrize("form", ["csv", "zip", "csv.gz", "daily"])
def test_an_exchange_archive_is_read_with_and_without_header_in_ms_and_us(
    tmp_path: Path, header: bool, per_ms: int, form: str
):
    content = archive([kline(minute, per_ms=per_ms) for minute in range(5)], header=header)
    name = "BTCUSDT-1m-2024-01-01" if form == "daily" else "BTCUSDT-1m-2024-01"
    path = tmp_path / f"{name}.{'csv' if form == 'daily' else form}"
    if form == "zip":
        zipped(path, {f"{name}.csv": content})
    else:
        path.write_bytes(gzip.compress(content, mtime=0) if form == "csv.gz" else content)
    candles = read_candle_file(path).candles
    assert_is_the_archive(candles)
    assert candles.quote_volume.tolist() == [1050.0] * 5
    assert candles.trades.tolist() == [7] * 5
    assert candles.taker_buy_volume.tolist() == [4.5] * 5
    assert candles.taker_buy_quote_volume.tolist() == [450.25] * 5


def test_every_member_of_a_zip_is_read_by_its_own_name(tmp_path: Path):
    members = {
        "spot/ETHUSDT-1m-2024-01.csv": archive([kline(0), kline(1)], header=True),
        "BTCUSDT-1m-2024-01.csv": archive([kline(0), kline(1)]),
        "BTCUSDT-1m-2024-01.zip.CHECKSUM": b"abc",
    }
    candles = read_candle_file(zipped(tmp_path / "all.zip", members)).candles
    assert sorted(minutes_of(candles)) == [("BTCUSDT", 0), ("BTCUSDT", 1), ("ETHUSDT", 0), ("ETHUSDT", 1)]


def ohlcv(rows: int = 5) -> list[list[float]]:
    return [[START_MS + at * MINUTE_MS, 100 + at, 102 + at, 99 + at, 101 + at, 10.5] for at in range(rows)]


def freqtrade_feather(path: Path) -> None:
    columns = list(zip(*ohlcv(), strict=True))
    names = ("open", "high", "low", "close", "volume")
    dates = pa.array(columns[0], pa.int64()).cast(pa.timestamp("ms", "UTC"))
    prices = {name: pa.array(values, pa.float64()) for name, values in zip(names, columns[1:], strict=True)}
    pyarrow.feather.write_feather(pa.table({"date": dates, **prices}), path, compression="lz4")


def written_json(path: Path) -> None:
    text = json.dumps(ohlcv()).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("BTC_USDT_USDT-1m-futures.feather", freqtrade_feather),
        ("BTC_USDT-1m.feather", freqtrade_feather),
        ("BTC_USDT_USDT-1m-futures.json", written_json),
        ("BTC_USDT-1m.json", written_json),
        ("BTC_USDT_USDT-1m-futures.json.gz", written_json),
        ("BTCUSDT.json", written_json),
        ("BTC-USDT.json", written_json),
    ],
)
def test_files_of_freqtrade_and_ccxt_have_their_symbol_in_their_name(
    tmp_path: Path, name: str, write: Callable[[Path], None]
):
    write(tmp_path / name)
    assert_is_the_archive(read_candle_file(tmp_path / name).candles)


def test_rows_of_json_may_be_whole_klines_with_texts(tmp_path: Path):
    path = tmp_path / "ETHUSDT-1m.json"
    path.write_text(json.dumps([[*map(str, kline(minute).split(","))] for minute in range(5)], indent=1))
    candles = read_candle_file(path).candles
    assert_is_the_archive(candles, "ETHUSDT")
    assert candles.taker_buy_volume.tolist() == [4.5] * 5


@pytest.mark.parametrize(
    ("name", "market"),
    [
        ("BTCUSDT-1m-2024-01.zip", "BTCUSDT"),
        ("BTCUSD_PERP-1m-2024-01.csv", "BTCUSD_PERP"),
        ("BTCUSDT_240628-1m-2024-01.csv", "BTCUSDT_240628"),
        ("1000PEPE_USDT_USDT-1m-futures.feather", "1000PEPEUSDT"),
        ("BTC_USD_BTC-1m-futures.feather", "BTCUSD_PERP"),
        ("ETH_BTC-1m.json", "ETHBTC"),
        ("candles.csv", None),
        ("..csv", None),
    ],
)
def test_the_name_of_a_file_names_its_market(name: str, market: str | None):
    found = market_of(name)
    assert (found.market and plain_symbol(found.market), found.refused) == (market, None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("BTCUSDT-5m-2024-01.csv", "candles of 5m, not of one minute"),
        ("BTCUSDT-1mo-2024-01.csv", "candles of 1mo, not of one minute"),
        ("BTC_USDT_USDT-1m-mark.csv", "candles of mark, not of trades"),
        ("notes.csv", "lacks the columns symbol; no market is in its name"),
    ],
)
def test_a_file_whose_name_says_that_it_has_no_minutes_of_trades_is_refused(
    tmp_path: Path, name: str, said: str
):
    (tmp_path / name).write_bytes(archive([kline(0)]))
    with pytest.raises(BadInput, match=said):
        read_candle_file(tmp_path / name)
    with pytest.raises(BadInput, match=said if "notes" in name else "only 1 of other candles"):
        CandleFiles([tmp_path], skip_bad=True)


def test_unsorted_repeated_and_missing_rows_are_sorted_and_told(tmp_path: Path):
    path = tmp_path / "BTCUSDT-1m-2024-01.csv"
    path.write_bytes(archive([kline(minute) for minute in (3, 0, 1, 1, 7)]))
    read = read_candle_file(path)
    assert minutes_of(read.candles) == [("BTCUSDT", minute) for minute in (0, 1, 1, 3, 7)]
    report = read.report
    assert (report.unordered, report.repeated, report.missing) == (1, 1, 1 + 3)


def test_numbers_in_scientific_notation_are_read(tmp_path: Path):
    path = tmp_path / "SHIBUSDT-1m-2024-01.csv"
    path.write_text(
        f"{START_MS},8.1e-06,8.2E-6,8.0e-06,8.15e-06,1.5e+9\n{START_MS + MINUTE_MS}.0,1e-5,1e-5,1e-5,1e-5,0\n"
    )
    candles = read_candle_file(path).candles
    assert candles.open.tolist() == [8.1e-06, 1e-05]
    assert candles.volume.tolist() == [1.5e9, 0.0]


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_a_volume_that_is_not_a_number_costs_its_row_and_names_it(tmp_path: Path, form: str):
    path = tmp_path / f"BTCUSDT-1m-2024-01.{form}"
    rows = ohlcv()
    rows[2][5] = math.nan
    if form == "csv":
        path.write_text("\n".join(",".join(map(str, row)) for row in rows))
    elif form == "json":
        path.write_text(json.dumps(rows))
    else:
        names = ("open_time", "open", "high", "low", "close", "volume")
        columns = zip(names, zip(*rows, strict=True), strict=True)
        pyarrow.parquet.write_table(pa.table(dict(columns)), path)
    read = read_candle_file(path)
    assert read.report.refused == {"not_finite": 1}
    word = "line" if form == "csv" else "row"
    assert read.report.places == [f"{path}, {word} 3: not_finite: a price or volume is not a finite number"]
    with pytest.raises(BadInput, match=rf"\.{form}, {word} 3: not_finite: .*"):
        CandleFiles([path], skip_bad=False)


def test_a_last_half_minute_is_left_out_and_told_but_is_no_fault(tmp_path: Path):
    path = tmp_path / "BTCUSDT-1m-2024-01.csv"
    half = kline(4).split(",")
    half[6] = str(START_MS + 4 * MINUTE_MS + 31_000)
    path.write_bytes(archive([*(kline(minute) for minute in range(4)), ",".join(half)]))
    with CandleFiles([path], skip_bad=False) as files:
        assert_is_the_archive(files.whole(), rows=4)
        assert (files.report.unfinished, files.report.refused.total()) == (1, 0)
        assert "1 candles of a minute that was not over: left out" in list(files.report.lines())
    path.write_text("\n".join(",".join(map(str, row)) for row in ohlcv()))
    with CandleFiles([path], skip_bad=False, now_ms=START_MS + 4 * MINUTE_MS + 30_000) as files:
        assert_is_the_archive(files.whole(), rows=4)
        assert files.report.unfinished == 1


def test_lines_with_missing_fields_are_named_and_do_not_shift_the_lines_after_them(tmp_path: Path):
    path = tmp_path / "BTCUSDT-1m-2024-01.csv"
    lines = [HEADER, *(kline(minute) for minute in range(6))]
    lines[2] = "1704067260000,1"
    lines[4] = kline(3, volume="-1")
    lines[6] = kline(5)[:30]
    path.write_text("\n".join(lines))
    read = read_candle_file(path)
    assert minutes_of(read.candles) == [("BTCUSDT", minute) for minute in (0, 2, 4)]
    assert read.report.rows == 6
    assert read.report.refused == {"bad_line": 2, "negative": 1}
    places = {place.split(": ")[0].rpartition(", ")[2] + place.split(": ")[1] for place in read.report.places}
    assert places == {"line 3bad_line", "line 5negative", "line 7bad_line"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("BTCUSDT-1m.csv", b"", "line 1 has 0 fields"),
        ("BTCUSDT-1m.csv", b"1,2,3\n", "line 1 has 3 fields"),
        ("BTCUSDT-1m.csv", b"open,open,high\n1,2,3\n", "the column 'open' twice"),
        ("BTCUSDT-1m.json", b'{"a": 1}', "not a JSON array of arrays"),
        ("BTCUSDT-1m.json", b"[[1704067200000,1,1,1,1,1],[17040672", "the file is cut short"),
        ("BTCUSDT-1m.zip", b"PK\x03\x04rest", "not a readable candle file"),
        ("BTCUSDT-1m.csv.gz", gzip.compress(b"x" * 9000, mtime=0)[:20], "not a readable candle file"),
        ("BTCUSDT-1m.feather", b"ARROW1\0\0junk", "not a readable candle file"),
        ("BTCUSDT-1m.xlsx", b"junk", "not a readable parquet, feather, CSV or JSON file"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path: Path, name: str, content: bytes, said: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=said) as raised:
        read_candle_file(tmp_path / name)
    assert name in str(raised.value)


def test_a_zip_without_candles_or_with_a_damaged_member_is_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="has no CSV or JSON file in it"):
        read_candle_file(zipped(tmp_path / "BTCUSDT-1m.zip", {"readme.txt": b""}))
    path = zipped(tmp_path / "ETHUSDT-1m.zip", {"ETHUSDT-1m.csv": archive([kline(at) for at in range(500)])})
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(bytes(damaged))
    with pytest.raises(BadInput, match=r"ETHUSDT-1m\.zip/ETHUSDT-1m\.csv"):
        read_candle_file(path)


def test_two_files_of_two_markets_with_one_symbol_are_refused(tmp_path: Path):
    for name in ("BTC_USDT-1m.json", "BTC_USDT_USDT-1m-futures.json"):
        written_json(tmp_path / name)
    with pytest.raises(BadInput, match="are both BTCUSDT"):
        CandleFiles([tmp_path], skip_bad=True)


@settings(max_examples=25, deadline=None)
@given(
    files=st.lists(
        st.lists(st.tuples(st.integers(0, 1500), st.integers(1, 50)), min_size=1, max_size=40),
        min_size=1,
        max_size=4,
    ),
    memory_rows=st.integers(0, 60),
    rows_at_least=st.integers(1, 30),
)
def test_the_order_and_the_report_do_not_depend_on_what_fits_in_memory(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[list[tuple[int, int]]],
    memory_rows: int,
    rows_at_least: int,
):
    folder = tmp_path_factory.mktemp("files")
    paths, expected = [], []
    # files in which no candle is valid are refused as a whole
    for number, rows in enumerate([*files, [(0, 1), (1, 1)]]):
        # a name for each two files: some symbols are in two of them
        symbol = f"S{number // 2}USDT" if number < len(files) else "VALIDUSDT"
        path = folder / f"{symbol}-1m-2024-0{number + 1}.csv"
        path.write_text(
            "\n".join(f"{START_MS + at * MINUTE_MS},{price},{price},{price},{price},1" for at, price in rows)
        )
        paths.append(path)
        expected += [(START_MS + at * MINUTE_MS, symbol, float(price)) for at, price in rows]
    expected.sort(key=lambda row: row[0])
    now_ms = START_MS + 10_000 * MINUTE_MS
    with (
        CandleFiles(paths, skip_bad=True, now_ms=now_ms) as whole,
        CandleFiles(paths, skip_bad=True, now_ms=now_ms, memory_rows=memory_rows) as spilled,
    ):
        parts = list(spilled.parts(rows_at_least))
        found = [
            (int(part.open_time_ms[row]), part.symbol_of(row), float(part.close[row]))
            for part in parts
            for row in range(len(part))
        ]
        if not whole.report.steps:
            assert found == expected
        assert whole.report.as_dict() == spilled.report.as_dict()
        one, other = whole.whole(), spilled.whole()
        for name in COLUMNS:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        for before, after in itertools.pairwise(parts):
            assert before.open_time_ms[-1] < after.open_time_ms[0]


PLAY = """
import sys
from pathlib import Path
from app.candle_files.reader import CandleFiles
with CandleFiles([Path(sys.argv[1])], skip_bad=False, memory_rows=20_000) as files:
    assert sum(len(part) for part in files.parts(5_000)) == len(files)
    print(len(files), next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak_kb(path: Path, rows: int) -> int:
    """Peak memory of a process that reads a file and plays it in order."""
    found = subprocess.run(
        [sys.executable, "-c", PLAY, str(path)], capture_output=True, check=True, text=True
    )
    read, peak = map(int, found.stdout.split())
    assert read == rows
    return peak


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_memory_stays_flat_for_a_file_of_any_size(tmp_path: Path, form: str):
    def written(rows: int) -> Path:
        path = tmp_path / f"{rows}-BTCUSDT.{form}"
        times = START_MS - MINUTE_MS * np.arange(rows, 0, -1, dtype=np.int64)
        if form == "parquet":
            ones = {name: np.ones(rows) for name in ("open", "high", "low", "close", "volume")}
            table = pa.table({"symbol": ["BTCUSDT"] * rows, "open_time_ms": times, **ones})
            pyarrow.parquet.write_table(table, path, row_group_size=50_000)
        else:
            left, right, end = ("[", "]", ",\n") if form == "json" else ("", "", "\n")
            body = end.join(f"{left}{time},1,1,1,1,1{right}" for time in times.tolist())
            path.write_text(f"[{body}]" if form == "json" else body)
            path = path.rename(path.with_name(f"BTCUSDT-1m-{rows}.{form}"))
        return path

    small, large = peak_kb(written(100_000), 100_000), peak_kb(written(600_000), 600_000)
    # 500,000 more candles in memory would be 65,000 kB
    assert large < small + 30_000


SEEDS: list[tuple[str, Callable[[Path], None]]] = [
    ("BTCUSDT-1m-2024-01.csv", lambda path: path.write_bytes(archive([kline(at) for at in range(40)], header=True))),
    ("BTCUSDT-1m-2024-01.zip", lambda path: zipped(path, {"BTCUSDT-1m-2024-01.csv": archive([kline(0), kline(1)])})),
    ("BTC_USDT-1m.json", written_json),
    ("BTC_USDT_USDT-1m-futures.feather", freqtrade_feather),
    ("BTC_USDT-1m.json.gz", written_json),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write"), SEEDS, ids=[name for name, _ in SEEDS])
def test_a_mutated_file_is_read_or_refused_in_words(tmp_path: Path, name: str, write: Callable[[Path], None]):
    path = tmp_path / name
    write(path)
    original = path.read_bytes()
    chance = random.Random(name)
    for _ in range(150):
        data = bytearray(original)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data))
            kind = chance.random()
            if kind < 0.5:
                data[at] = chance.choice(b'\0\xff,.[]-"\n0eN') if kind < 0.3 else chance.randrange(256)
            elif kind < 0.7:
                del data[at : at + chance.randint(1, 9)]
            elif kind < 0.9:
                data[at:at] = data[at : at + chance.randint(1, 40)]
            else:
                del data[at + 1 :]
            if not data:
                break
        path.write_bytes(bytes(data))
        try:
            read = read_candle_file(path)
        except BadInput as error:
            assert name in str(error)
        else:
            assert len(read.candles) == read.report.usable


@pytest.mark.parametrize("form", ["parquet", "feather", "csv", "zip", "csv.gz"])
def test_who_reads_large_files_is_told_how_far_the_reading_is(tmp_path: Path, form: str):
    rows = 120_000
    table = pa.table(
        {
            "open_time_ms": START_MS + MINUTE_MS * np.arange(rows),
            **{name: np.ones(rows) for name in ("open", "high", "low", "close", "volume")},
        }
    )
    for month in ("01", "02"):
        stem = tmp_path / f"BTCUSDT-1m-2024-{month}"
        write_form(table, stem, form)
    told: list[ReadSoFar] = []
    with CandleFiles([tmp_path], skip_bad=False, on_read=told.append) as files:
        assert len(files) == 2 * rows
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    shares = [read.bytes_read / size for read in told]
    assert shares == sorted(shares)
    assert {read.bytes_of_all for read in told} == {size}
    assert (shares[-1], told[-1].candles) == (1.0, 2 * rows)
    between = [share for share in shares if 0.05 < share < 0.45]
    # of text some megabytes are read ahead
    assert bool(between) == (form in ("parquet", "feather"))


def write_form(table: pa.Table, stem: Path, form: str) -> None:
    path = stem.with_name(f"{stem.name}.{form}")
    if form == "parquet":
        pa.parquet.write_table(table, path)
    elif form == "feather":
        pa.feather.write_feather(table, path)
    else:
        text = io.BytesIO()
        pa.csv.write_csv(table, text)
        if form == "zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(f"{stem.name}.csv", text.getvalue())
        else:
            path.write_bytes(gzip.compress(text.getvalue()) if form == "csv.gz" else text.getvalue())
