"""The validity check of a candle, as plain conditions on its numbers."""

from __future__ import annotations

import math

from benchmarks.plain_faust.windows import MINUTE_MS


def is_valid(
    open_time: int, prices: tuple[float, float, float, float], amounts: tuple[float, float, int]
) -> bool:
    """Return whether a candle is valid. prices: open, high, low, close. amounts: volume, quote volume, trades."""
    open_, high, low, close = prices
    return (
        all(math.isfinite(price) and price > 0 for price in prices)
        and all(math.isfinite(amount) and amount >= 0 for amount in amounts)
        and low <= min(open_, close) <= max(open_, close) <= high
        and open_time % MINUTE_MS == 0
    )
