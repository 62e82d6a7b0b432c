"""`screener screen` over a candle file."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.csv
import pytest
from click.testing import CliRunner, Result

from app.cli.commands.candles import screen_command
from app.errors import RuleError, ServerUnreachable
from app.local.servers.ports import free_port

START_MS = 1_704_067_200_000
"""2024-01-01 00:00 UTC."""
MINUTES = 70
RISES = {"AUSDT": 1.0, "BUSDT": 3.0, "CUSDT": -2.0, "DUSDT": 2.0}
"""Percent that the last minute adds to a price of 100."""


@pytest.fixture
def file(tmp_path: Path) -> str:
    """DUSDT has no candle in the last minute."""
    rows = [
        (symbol, START_MS + 60_000 * minute, 100.0 + (rise if minute == MINUTES - 1 else 0.0))
        for minute in range(MINUTES)
        for symbol, rise in RISES.items()
        if (symbol, minute) != ("DUSDT", MINUTES - 1)
    ]
    symbols, times, closes = zip(*rows, strict=True)
    columns = {name: closes for name in ("open", "high", "low", "close")}
    table = pa.table({"symbol": symbols, "open_time_ms": times, **columns, "volume": [1.0] * len(rows)})
    pyarrow.csv.write_csv(table, tmp_path / "candles.csv")
    return str(tmp_path / "candles.csv")


def screen(*arguments: str) -> Result:
    return CliRunner().invoke(screen_command, list(arguments), catch_exceptions=False)


def found(*arguments: str) -> list[str]:
    return [symbol["symbol"] for symbol in json.loads(screen(*arguments, "--json").stdout)["symbols"]]


def test_the_symbols_that_satisfy_the_expression_are_sorted_and_cut_as_asked(file: str) -> None:
    where = "price_change_5m > 0.5 or price_change_5m < -1"
    assert found(where, "--file", file, "--sort", "price_change_5m") == ["BUSDT", "AUSDT", "CUSDT"]
    assert found(where, "--file", file, "--sort", "price_change_5m", "--order", "asc", "--limit", "2") == [
        "CUSDT",
        "AUSDT",
    ]
    assert found("price_change_5m > 5", "--file", file) == []
    assert found("rank(price_change_5m) <= 2", "--file", file, "--sort", "price") == ["BUSDT", "AUSDT"]


def test_each_symbol_comes_with_its_price_and_the_metrics_asked_for_null_where_they_are_null(
    file: str,
) -> None:
    where = "price_change_1h > 2 and not (price_change_1d > 1 and price_change_1h < 0)"
    answer = json.loads(screen(where, "--file", file, "--json").stdout)
    assert (answer["matched"], answer["evaluated"]) == (1, 3)
    [symbol] = answer["symbols"]
    assert symbol["symbol"] == "BUSDT"
    assert symbol["price"] == 103.0
    assert symbol["timestamp"] == "2024-01-01T01:10:00.000Z"
    assert symbol["values"] == {"price_change_1h": pytest.approx(3.0), "price_change_1d": None}
    told = screen(where, "--file", file).stdout
    assert "BUSDT" in told
    assert "1 of 3 symbols" in told


def test_an_earlier_minute_of_the_file_can_be_asked_for(file: str) -> None:
    assert found("price_change_1m == 0", "--file", file, "--at", "2024-01-01T01:05:30Z") == list(RISES)
    with pytest.raises(click.ClickException, match="no candle for this minute"):
        CliRunner().invoke(
            screen_command,
            ["price > 1", "--file", file, "--at", "2024-01-02T00:00:00Z"],
            catch_exceptions=False,
            standalone_mode=False,
        )


def test_a_faulty_expression_is_shown_with_the_place_of_its_fault(file: str) -> None:
    with pytest.raises(RuleError, match=r"did you mean(.|\n)*price_chnge_1h > 2\n +\^"):
        screen("price > 1 and price_chnge_1h > 2", "--file", file)
    with pytest.raises(RuleError, match="looks back"):
        screen("prev(rank(price)) > 1", "--file", file)
    with pytest.raises(RuleError, match="a number is needed"):
        screen("price > 1", "--file", file, "--sort", "price > 2")


def test_without_a_running_screener_it_says_what_to_do() -> None:
    with pytest.raises(ServerUnreachable, match="screener up"):
        screen("price > 1", "--url", f"http://127.0.0.1:{free_port()}")
    refused = screen("price > 1", "--url", "http://127.0.0.1", "--at", "2024-01-01T00:00:00Z")
    assert refused.exit_code == 2
    assert "--url queries the present" in refused.stderr
