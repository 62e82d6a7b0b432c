"""Finds the folder of real market data: beside the repository, or named by MARKET_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ALTCOINS_2021 = "market_2021-04-17_19_91sym.parquet"
FULL_2024 = "market_2024-02-27_29_8sym_full.parquet"
SEARCHED_FOLDERS = tuple(Path(__file__).resolve().parents)
_NONE = "none"
_ADVICE = "no recorded market: put shared/data above this repository, or set MARKET_DATA to its folder"


def market_data_dir() -> Path:
    """Return the folder that MARKET_DATA names, or `shared/data` of the nearest parent that has one.

    Without such a folder, tests that need it are skipped with a message. Outside of tests, and in CI unless MARKET_DATA
    is `none`, it raises FileNotFoundError with advice.
    """
    given = os.environ.get("MARKET_DATA")
    if given and given != _NONE:
        return Path(given)
    if not given:
        for parent in SEARCHED_FOLDERS:
            found = parent / "shared" / "data"
            if found.is_dir():
                return found
    may_skip = given == _NONE or os.environ.get("CI") != "true"
    if "PYTEST_VERSION" in os.environ and may_skip:
        pytest.skip(_ADVICE, allow_module_level=True)
    raise FileNotFoundError(_ADVICE)
