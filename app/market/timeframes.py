"""The timeframes of every window and indicator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Timeframe:
    """words: exchange -> its word for klines of this interval, where it has them: they warm up indicators."""

    name: str
    minutes: int
    words: Mapping[str, str] = field(default_factory=dict)


TABLE: Final = (
    Timeframe("1m", 1, {"binance": "1m", "bybit": "1"}),
    Timeframe("5m", 5, {"binance": "5m", "bybit": "5"}),
    Timeframe("15m", 15, {"binance": "15m", "bybit": "15"}),
    Timeframe("1h", 60, {"binance": "1h", "bybit": "60"}),
    Timeframe("4h", 240, {"binance": "4h", "bybit": "240"}),
    Timeframe("8h", 480, {"binance": "8h"}),
    Timeframe("1d", 1440, {"binance": "1d", "bybit": "D"}),
)
"""Shortest first: 1m, 5m, then multiples of 15 minutes of which a day is a multiple."""

TIMEFRAMES: Final[dict[str, int]] = {one.name: one.minutes for one in TABLE}
"""Name -> length in minutes, shortest first."""

WARMED_BY_BARS: Final = tuple(one.name for one in TABLE if one.minutes >= 15)
"""Timeframes of which a day of minutes has too few bars for indicators."""

WARM_UP_BARS: Final = 300
"""An EMA of 50 has forgotten its first value to 1e-5 after them."""


def words_of(exchange: str) -> dict[str, str]:
    """Return timeframe -> the exchange's word for it, for the timeframes that the exchange has."""
    return {one.name: one.words[exchange] for one in TABLE if exchange in one.words}
