"""Candle files with faults: each one is told, and costs no more than itself."""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from app.candle_files.reader import CandleFiles, read_candle_file
from app.candles.batch import MINUTE_MS
from app.errors import BadInput
from tests.support.written_candles import (
    HEADER,
    START_MS,
    archive,
    assert_is_the_archive,
    freqtrade_feather,
    kline,
    minutes_of,
    ohlcv,
    written_json,
    zipped,
)


def test_unsorted_repeated_and_missing_rows_are_sorted_and_told(tmp_path: Path):
    path = tmp_path / "BTCUSDT-1m-2024-01.csv"
    path.write_bytes(archive([kline(minute) for minute in (3, 0, 1, 1, 7)]))
    read = read_candle_file(path)
    assert minutes_of(read.candles) == [("BTCUSDT", minute) for minute in (0, 1, 1, 3, 7)]
    report = read.report
    assert (report.unordered, report.repeated, report.missing) == (1, 1, 1 + 3)


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
