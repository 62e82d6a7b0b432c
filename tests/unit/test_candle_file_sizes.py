"""Candle files of any size: their order, the memory that they take, and how far the reading is."""

from __future__ import annotations

import gzip
import io
import itertools
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.candle_files.reader import CandleFiles, ReadSoFar
from app.candles.batch import COLUMNS, MINUTE_MS
from tests.support.written_candles import (
    START_MS,
)


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
    # a thread reads some megabytes of text ahead: how far it is when it is asked, its speed decides
    if form in ("parquet", "feather"):
        assert any(0.05 < share < 0.45 for share in shares)


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
