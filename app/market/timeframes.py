"""The seven timeframes of every window and indicator."""

from __future__ import annotations

from typing import Final

TIMEFRAMES: Final[dict[str, int]] = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "8h": 480, "1d": 1440}
"""Name -> length in minutes, shortest first."""
