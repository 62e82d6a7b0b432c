"""The six shipped rules that are off by default, by brute force over closed candles.

Each function takes one symbol's candles by minute and returns the minutes at which its condition is true. An incomplete
window or bar is null, and makes no condition true.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.oracle.alerts import Alert, cooled_down

MINUTE_MS = 60_000
COLUMNS = ("high", "low", "close", "quote_volume")


@dataclass(frozen=True)
class Candle:
    high: float
    low: float
    close: float
    quote_volume: float


Candles = Mapping[int, Candle]
"""Minute (open time / 60,000 ms) -> candle."""


def quiet_alerts(parquet_path: str | Path) -> set[Alert]:
    """Return the alerts of a candle file in close mode."""
    table = pq.read_table(parquet_path, columns=["symbol", "open_time_ms", *COLUMNS])
    symbol = table.column("symbol").to_numpy(zero_copy_only=False)
    minutes = table.column("open_time_ms").to_numpy() // MINUTE_MS
    values = np.column_stack([table.column(name).to_numpy() for name in COLUMNS])
    alerts: set[Alert] = set()
    for name in sorted(set(symbol.tolist())):
        rows = np.flatnonzero(symbol == name)
        candles = _by_minute(minutes[rows], values[rows])
        for rule_type, true_at in RULES.items():
            times_ms = [minute * MINUTE_MS for minute in true_at(candles)]
            alerts |= {(rule_type, name, at_ms) for at_ms in cooled_down(times_ms)}
    return alerts


def _by_minute(minutes: NDArray[np.int64], values: NDArray[np.float64]) -> Candles:
    found = {minute: Candle(*row) for minute, row in zip(minutes.tolist(), values.tolist(), strict=True)}
    return dict(sorted(found.items()))


def _window(candles: Candles, last: int, length: int) -> list[Candle] | None:
    minutes = range(last - length + 1, last + 1)
    return [candles[m] for m in minutes] if all(m in candles for m in minutes) else None


def _volume(window: list[Candle]) -> float:
    return math.fsum(candle.quote_volume for candle in window)


def _whale(side: int) -> Callable[[Candles], list[int]]:
    """Five minutes with more than three times the volume of the five before, and a price change of more than 2 %."""

    def true_at(candles: Candles) -> list[int]:
        found = []
        for minute, candle in candles.items():
            earlier = candles.get(minute - 5)
            if earlier is None or (candle.close / earlier.close - 1) * 100 * side <= 2:
                continue
            now, before = _window(candles, minute, 5), _window(candles, minute - 5, 5)
            whole = now is not None and before is not None and _volume(before) > 0
            if whole and _volume(now) / _volume(before) > 3:
                found.append(minute)
        return found

    return true_at


def _volume_run(side: int) -> Callable[[Candles], list[int]]:
    """Three closed 5m bars by the clock, each with more than 2.5 times the mean volume of the 20 bars before them, and
    with closes that rise (side +1) or fall (side -1)."""

    def true_at(candles: Candles) -> list[int]:
        bars: dict[int, tuple[float, float]] = {}
        for number in {minute // 5 for minute in candles}:
            if (bar := _window(candles, 5 * number + 4, 5)) is not None:
                bars[number] = (_volume(bar), bar[-1].close * side)
        verdicts: dict[int, bool] = {}

        def at_bar(last: int) -> bool:
            numbers = range(last - 22, last + 1)
            if any(number not in bars for number in numbers):
                return False
            volumes = [bars[number][0] for number in numbers]
            one, two, three = (bars[number][1] for number in numbers[-3:])
            mean = math.fsum(volumes[:20]) / 20
            return mean > 0 and min(volumes[20:]) / mean > 2.5 and one < two < three

        found = []
        for minute in candles:
            last = (minute + 1) // 5 - 1
            if last not in verdicts:
                verdicts[last] = at_bar(last)
            if verdicts[last]:
                found.append(minute)
        return found

    return true_at


def _flat(length: int, limit_pct: float) -> Callable[[Candles], list[int]]:
    """The range of the window becomes less than a share of its low."""

    def true_at(candles: Candles) -> list[int]:
        minutes = list(candles)
        first, last = minutes[0], minutes[-1]
        high, low = np.full((2, last - first + 1), np.nan)
        for minute, candle in candles.items():
            high[minute - first], low[minute - first] = candle.high, candle.low
        if len(high) < length:
            return []
        # a missing minute makes the extremes of every window that contains it null
        top = np.lib.stride_tricks.sliding_window_view(high, length).max(axis=1)
        bottom = np.lib.stride_tricks.sliding_window_view(low, length).min(axis=1)
        spread = 100 * (top - bottom) / bottom
        entered = np.flatnonzero((spread[1:] < limit_pct) & (spread[:-1] >= limit_pct))
        return (entered + 1 + length - 1 + first).tolist()

    return true_at


RULES: dict[str, Callable[[Candles], list[int]]] = {
    "bull_whale": _whale(+1),
    "bear_whale": _whale(-1),
    "bull_volume": _volume_run(+1),
    "bear_volume": _volume_run(-1),
    "flat_1m": _flat(10, 0.1),
    "flat_8h": _flat(480, 2.0),
}
