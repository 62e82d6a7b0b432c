"""The tables of longer bars, which the sinks write with the minutes and which outlive them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.candles.batch import MINUTE_MS
from app.candles.intervals import Interval

MINUTES_TABLE: Final = "candles_1m"


@dataclass(frozen=True, slots=True)
class BarTable:
    """A table of bars, which begin at multiples of their length since 1970. chunk: length of a TimescaleDB chunk, which
    holds some 2,000 rows of a symbol: two full batches once it is compressed."""

    timeframe: str
    length_ms: int
    chunk: str

    @property
    def name(self) -> str:
        return f"candles_{self.timeframe}"

    @property
    def minutes(self) -> int:
        return self.length_ms // MINUTE_MS


BAR_TABLES: Final = (
    BarTable("5m", 5 * MINUTE_MS, "7 days"),
    BarTable("15m", 15 * MINUTE_MS, "21 days"),
    BarTable("1h", 60 * MINUTE_MS, "84 days"),
    BarTable("4h", 240 * MINUTE_MS, "336 days"),
    BarTable("1d", 1440 * MINUTE_MS, "2016 days"),
)
"""Shortest first; each length is a multiple of the one before."""

BAR_TABLE_OF: Final = {table.timeframe: table for table in BAR_TABLES}


def tables_below(interval: Interval) -> tuple[BarTable, ...]:
    """Return the tables that bars of the interval can be made of, longest bars first; empty if only minutes fit."""
    fitting = [
        table
        for table in BAR_TABLES
        if interval.length_ms is None or interval.length_ms % table.length_ms == 0
    ]
    return tuple(reversed(fitting))
