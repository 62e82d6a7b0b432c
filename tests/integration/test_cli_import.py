"""`screener import`: the minutes of candle files in the database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.candles.batch import MINUTE_MS
from app.cli.commands.candles import import_command
from app.database.candles.minutes import load_minutes
from app.database.connection import connect
from app.database.migrate import migrate
from app.errors import BadInput
from app.settings import Settings

START_MS = 1_704_067_200_000
SYMBOLS = ("BTCUSDT", "ETHUSDT")


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the test in the environment, and its schema in the database."""
    migrate(settings.postgres())
    monkeypatch.setenv("SCREENER_POSTGRES_URL", settings.server_urls().postgres)
    monkeypatch.setenv("SCREENER_NAMESPACE", settings.namespace)


def archive(folder: Path, symbol: str, closes: list[float]) -> None:
    rows = [
        f"{START_MS + at * MINUTE_MS},1,{close},1,{close},2,{START_MS + (at + 1) * MINUTE_MS - 1},3,4,1,1.5,0"
        for at, close in enumerate(closes)
    ]
    (folder / f"{symbol}-1m-2024-01.csv").write_text("\n".join(rows))


def imported(*arguments: str) -> Result:
    return CliRunner().invoke(import_command, arguments)


def stored(settings: Settings) -> dict[tuple[str, int], tuple[float, int]]:
    """(symbol, minute after START_MS) -> (close, trades)."""

    async def ask() -> dict[tuple[str, int], tuple[float, int]]:
        async with await connect(settings.postgres()) as connection:
            batch = await load_minutes(connection, SYMBOLS, START_MS, START_MS + 100 * MINUTE_MS)
        return {
            (batch.symbol_of(row), int(batch.open_time_ms[row] - START_MS) // MINUTE_MS): (
                float(batch.close[row]),
                int(batch.trades[row]),
            )
            for row in range(len(batch))
        }

    return asyncio.run(ask())


def test_minutes_of_a_folder_are_stored_once_and_corrected_by_a_later_import(
    settings: Settings, tmp_path: Path
):
    archive(tmp_path, "BTCUSDT", [1.0, 2.0, 3.0])
    archive(tmp_path, "ETHUSDT", [4.0])
    expected = {
        ("BTCUSDT", 0): (1.0, 4), ("BTCUSDT", 1): (2.0, 4), ("BTCUSDT", 2): (3.0, 4), ("ETHUSDT", 0): (4.0, 4),
    }  # fmt: skip
    for _ in range(2):
        result = imported(str(tmp_path))
        assert result.exit_code == 0, result.output
        assert "4 minutes of 2 symbols stored" in result.stdout
        assert "4 of them are older than SCREENER_RETENTION_HOURS" in result.stderr
        assert stored(settings) == expected
    archive(tmp_path, "BTCUSDT", [1.0, 9.0])
    assert imported(str(tmp_path / "BTCUSDT-1m-2024-01.csv")).exit_code == 0
    assert stored(settings) == expected | {("BTCUSDT", 1): (9.0, 4)}


def test_a_file_with_a_bad_row_stores_nothing_unless_told_to_skip_it(settings: Settings, tmp_path: Path):
    archive(tmp_path, "BTCUSDT", [1.0, 0.5, 3.0])
    refused = imported(str(tmp_path))
    assert isinstance(refused.exception, BadInput)
    assert "BTCUSDT-1m-2024-01.csv, line 2: high_low" in str(refused.exception)
    assert stored(settings) == {}
    assert imported(str(tmp_path), "--skip-bad").exit_code == 0
    assert stored(settings) == {("BTCUSDT", 0): (1.0, 4), ("BTCUSDT", 2): (3.0, 4)}


def test_candles_of_another_exchange_are_refused(settings: Settings, tmp_path: Path):
    path = tmp_path / "candles.csv"
    path.write_text(
        f"symbol,exchange,open_time,open,high,low,close,volume\nBTCUSDT,bybit,{START_MS},1,1,1,1,1\n"
    )
    refused = imported(str(path))
    assert isinstance(refused.exception, BadInput)
    assert "candles of bybit, this screener those of binance" in str(refused.exception)
    assert stored(settings) == {}
