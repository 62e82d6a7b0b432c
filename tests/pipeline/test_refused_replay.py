"""A replay says how many candles its pipeline rejected, which no reader of files can know, and fails if all were."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import Settings
from tests.support.replays import REPOSITORY

pytestmark = pytest.mark.slow

SYMBOLS = 40
MINUTES = 5


def replayed(settings: Settings, directory: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """A `screener replay` of five minutes of forty symbols, all valid to the reader."""
    file = directory / "candles.csv"
    rows = [
        f"S{symbol}USDT,{1_700_000_040_000 + at * 60_000},1,2,1,2,10,15,3"
        for at in range(MINUTES) for symbol in range(SYMBOLS)
    ]  # fmt: skip
    file.write_text(
        "\n".join(("symbol,open_time_ms,open,high,low,close,volume,quote_volume,trades", *rows)) + "\n"
    )
    return subprocess.run(
        [sys.executable, "-m", "app", "replay", file, "--skip-bad"], cwd=REPOSITORY, timeout=200, check=False,
        env=os.environ | settings.servers_environ() | {"COLUMNS": "300"} | given, text=True, capture_output=True,
    )  # fmt: skip


def test_candles_beyond_the_bound_on_symbols_are_counted_in_the_report(
    settings: Settings, tmp_path: Path
) -> None:
    ended = replayed(
        settings, tmp_path, SCREENER_SYMBOLS_MAX="1", SCREENER_PARTITIONS=str(settings.partitions)
    )
    assert ended.returncode == 0, ended.stderr
    # each partition has one symbol: all their minutes are taken, and all those of the others are not
    beyond = (SYMBOLS - settings.partitions) * MINUTES
    assert f"rejected by the pipeline: {beyond} too_many_symbols" in ended.stdout


def test_a_replay_of_which_nothing_was_taken_fails_with_the_reason(
    settings: Settings, tmp_path: Path
) -> None:
    ended = replayed(settings, tmp_path, SCREENER_MESSAGE_MAX_BYTES="1024")
    assert ended.returncode == 78
    assert ended.stdout == ""
    assert f"none of {SYMBOLS * MINUTES} candles was taken: " in ended.stderr
    assert "too_large" in ended.stderr
    assert "Traceback" not in ended.stderr
