"""What of history may be used at all."""

from __future__ import annotations

import numpy as np

from app.candles.batch import CandleBatch
from app.candles.validity import check


def valid_history(candles: CandleBatch) -> tuple[CandleBatch, int]:
    """The valid candles, and how many are not. History cannot lie in the future, so the newest is the clock."""
    if not len(candles):
        return candles, 0
    bad = np.zeros(len(candles), np.bool_)
    for mask, _ in check(candles, int(candles.open_time_ms.max())):
        bad |= mask
    return (candles.take(~bad) if bad.any() else candles), int(np.count_nonzero(bad))
