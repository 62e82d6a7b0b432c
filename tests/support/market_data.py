"""Where the real market data lies: beside the repository, or where MARKET_DATA says."""

from __future__ import annotations

import os
from pathlib import Path

ALTCOINS_2021 = "market_2021-04-17_19_91sym.parquet"
FULL_2024 = "market_2024-02-27_29_8sym_full.parquet"


def market_data_dir() -> Path:
    """The folder `shared/data` of the nearest parent that has one. Raises FileNotFoundError with advice."""
    given = os.environ.get("MARKET_DATA")
    if given:
        return Path(given)
    for parent in Path(__file__).resolve().parents:
        found = parent / "shared" / "data"
        if found.is_dir():
            return found
    raise FileNotFoundError("no shared/data above this repository; set MARKET_DATA to its folder")
