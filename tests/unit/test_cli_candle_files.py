"""Commands that take a candle file take and refuse the same ones, with the same words."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest
from click.testing import CliRunner, Result

from app.cli.main import screener
from app.errors import BadInput

START_MS = 1_704_067_200_000
"""2024-01-01 00:00 UTC."""
MINUTE_MS = 60_000


def written(path: Path, *, symbol: str = "BTC/USDT:USDT", step_ms: int = MINUTE_MS, per_ms: int = 1) -> str:
    rows = 60
    prices = {name: [100.0 + row % 7 for row in range(rows)] for name in ("open", "high", "low", "close")}
    times = [(START_MS + step_ms * row) * per_ms for row in range(rows)]
    columns = {"symbol": [symbol] * rows, "open_time_ms": times, **prices, "volume": [1.0] * rows}
    pyarrow.csv.write_csv(pa.table(columns), path)
    return str(path)


def commands(file: str) -> list[list[str]]:
    return [
        ["backtest", file, "--json", "--symbols", "BTC-USDT"],
        ["screen", "price > 0", "--file", file, "--json"],
        ["explain", "futures_pioneer_bull", "btcusdt", "--file", file, "--json"],
        ["replay", file],
        ["sim-exchange", "--file", file, "--port", "0"],
    ]


def invoke(arguments: list[str]) -> Result:
    return CliRunner().invoke(screener, arguments)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"step_ms": 5 * MINUTE_MS}, "60 of 60 rows rejected as not_minutes: .*BTCUSDT 5m"),
        ({"symbol": "?"}, "60 of 60 rows rejected as bad_symbol"),
        ({"per_ms": 7}, "60 of 60 rows rejected as bad_time"),
    ],
)
def test_a_file_of_which_nothing_is_usable_fails_every_command_with_its_reasons(
    tmp_path: Path, form: dict[str, object], said: str
):
    for arguments in commands(written(tmp_path / "candles.csv", **form)):
        result = invoke(arguments)
        assert result.exit_code != 0, arguments
        assert isinstance(result.exception, BadInput), arguments
        with pytest.raises(BadInput, match=said):
            raise result.exception


def test_a_symbol_may_be_spelled_in_any_way_and_odd_units_are_told(tmp_path: Path):
    file = written(tmp_path / "candles.csv", per_ms=1000)
    backtest, screen, explain = (invoke(arguments) for arguments in commands(file)[:3])
    for result in (backtest, screen, explain):
        assert result.exit_code == 0, result.output
        assert "column open_time_ms holds microseconds in 60 rows" in result.stderr
        assert "BTC/USDT:USDT is BTCUSDT" in result.stderr
    found = json.loads(backtest.stdout)
    assert (found["candles"], found["file"]["time_units"]) == (60, {"microseconds": 60})
    assert [symbol["symbol"] for symbol in json.loads(screen.stdout)["symbols"]] == ["BTCUSDT"]


def test_refused_rows_stand_by_reason_in_the_figures_of_a_backtest(tmp_path: Path):
    path = tmp_path / "candles.csv"
    written(path)
    path.write_text(path.read_text() + '"BTC/USDT:USDT",1704070800000,1,1,1,,1\n')
    result = invoke(["backtest", str(path), "--json", "--skip-bad"])
    assert json.loads(result.stdout)["file"]["refused"] == {"not_finite": 1}
    assert "1 of 61 rows rejected as not_finite" in result.stderr


def test_a_row_that_is_no_candle_stops_every_command_with_file_line_and_reason(tmp_path: Path):
    path = tmp_path / "candles.csv"
    written(path)
    lines = path.read_text().splitlines()
    lines[9] = '"BTC/USDT:USDT",1704067680000,1,1,2,1,1'
    path.write_text("\n".join(lines))
    for arguments in [*commands(str(path)), ["import", str(path)]]:
        result = invoke(arguments)
        assert isinstance(result.exception, BadInput), arguments
        with pytest.raises(BadInput, match=r"candles\.csv, line 10: high_low: low <= .*--skip-bad") as raised:
            raise BadInput("", str(result.exception).replace("\n", " "))
        assert raised


def test_many_files_and_folders_are_one_history(tmp_path: Path):
    first, second = tmp_path / "BTCUSDT-1m-2024-01.csv", tmp_path / "more" / "BTCUSDT-1m-2024-02.csv"
    second.parent.mkdir()
    for path, begin in ((second, 30), (first, 0)):
        rows = [f"{START_MS + MINUTE_MS * minute},1,2,0.5,1.5,10" for minute in range(begin, begin + 30)]
        path.write_text("\n".join(rows))
    (second.parent / "BTCUSDT-5m-2024-02.csv").write_text("no candles of minutes")
    for files in ([str(first), str(second)], [str(tmp_path)]):
        result = invoke(["backtest", *files, "--json"])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["candles"] == 60
        screened = invoke(
            ["screen", "price > 0", "--json", *(part for file in files for part in ("--file", file))]
        )
        assert [found["symbol"] for found in json.loads(screened.stdout)["symbols"]] == ["BTCUSDT"]


def test_a_symbol_that_cannot_be_one_is_refused_where_it_is_given(tmp_path: Path):
    file = written(tmp_path / "candles.csv")
    for arguments in (["backtest", file, "--symbols", "BTC USDT"], ["explain", "futures_pioneer_bull", "?"]):
        result = invoke(arguments)
        assert (result.exit_code, "is not a symbol" in result.output) == (2, True)
