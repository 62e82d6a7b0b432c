"""Price changes and quote-volume sums of one symbol, for every minute between its first and last candle.

Sums are exact: every float64 is an integer multiple of 2**-1074, so prefix sums are kept as Python integers
of that unit, and each window's sum is rounded once, at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MINUTE_MS = 60_000
MINUTES = {"5m": 5, "15m": 15, "1h": 60, "8h": 480, "1d": 1440}
UNITS_PER_ONE = 2**1074


@dataclass(frozen=True)
class Windows:
    """One row per minute; NaN is null. `minutes_ms` are open times; a minute may have no candle."""

    minutes_ms: NDArray[np.int64]
    present: NDArray[np.bool_]
    price_change: dict[str, NDArray[np.float64]]
    """Percent against the candle N minutes earlier; null if either candle is missing."""
    volume: dict[str, NDArray[np.float64]]
    """Sum of quote volume over the N minutes up to and including this one; null if one of them is missing."""


def windows_of(
    open_time_ms: NDArray[np.int64], close: NDArray[np.float64], quote_volume: NDArray[np.float64]
) -> Windows:
    """Compute the windows of one symbol's candles, one per minute, in any order."""
    first_ms, last_ms = int(open_time_ms.min()), int(open_time_ms.max())
    minutes_ms = np.arange(first_ms, last_ms + MINUTE_MS, MINUTE_MS)
    row = (open_time_ms - first_ms) // MINUTE_MS
    close_at = np.full(len(minutes_ms), np.nan)
    close_at[row] = close
    volume_at = np.full(len(minutes_ms), np.nan)
    volume_at[row] = quote_volume
    return Windows(
        minutes_ms=minutes_ms,
        present=~np.isnan(close_at),
        price_change={name: _price_change(close_at, n) for name, n in MINUTES.items()},
        volume={name: _window_sum(volume_at, n) for name, n in MINUTES.items()},
    )


def _price_change(close: NDArray[np.float64], minutes: int) -> NDArray[np.float64]:
    change = np.full(len(close), np.nan)
    change[minutes:] = (close[minutes:] / close[:-minutes] - 1) * 100
    return change


def _window_sum(values: NDArray[np.float64], minutes: int) -> NDArray[np.float64]:
    total = 0
    missing = 0
    total_before = [0]
    missing_before = [0]
    for value in values.tolist():
        if value != value:
            missing += 1
        else:
            numerator, denominator = value.as_integer_ratio()
            total += numerator * (UNITS_PER_ONE // denominator)
        total_before.append(total)
        missing_before.append(missing)

    sums = np.full(len(values), np.nan)
    for last in range(minutes - 1, len(values)):
        first = last - minutes + 1
        if missing_before[last + 1] == missing_before[first]:
            sums[last] = (total_before[last + 1] - total_before[first]) / UNITS_PER_ONE
    return sums
