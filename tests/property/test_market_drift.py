"""Sums do not drift: after ten million updates they equal a fresh summation."""

from __future__ import annotations

import math

import numpy as np

from app.candles.batch import CandleBatch
from app.market.matrix import MarketMatrix
from tests.support.market_oracle import MINUTES

SYMBOLS = 500
FRAME_MINUTES = 15
FRAMES = 1_334
UPDATES = SYMBOLS * FRAME_MINUTES * FRAMES
START = 26_924_400
POOL_MINUTES = 1_500  # longer than the longest window; the market repeats after it


def test_sums_after_ten_million_updates_equal_a_fresh_summation() -> None:
    assert UPDATES > 10_000_000
    rng = np.random.default_rng(11)
    # Ten orders of magnitude from one minute to the next: a running sum would lose the small ones.
    quote = np.exp(rng.normal(0.0, 8.0, (POOL_MINUTES, SYMBOLS)))
    volume = quote * rng.uniform(0.5, 2.0, quote.shape)
    columns = [f"{field}_{name}" for field in ("quote_volume", "base_volume") for name in MINUTES]
    matrix = MarketMatrix(columns=columns)
    rows = FRAME_MINUTES * SYMBOLS
    ones, nothing = np.ones(rows), np.full(rows, np.nan)
    of_row = np.repeat(np.arange(FRAME_MINUTES), SYMBOLS)
    names = tuple(f"S{k}" for k in range(SYMBOLS))
    updates = 0
    for frame in range(FRAMES):
        minute = frame * FRAME_MINUTES
        pool = slice(minute % POOL_MINUTES, minute % POOL_MINUTES + FRAME_MINUTES)
        times = (START + minute + of_row) * 60_000
        metrics = matrix.update(CandleBatch(
            names, np.tile(np.arange(SYMBOLS, dtype=np.int32), FRAME_MINUTES), times, ones, ones, ones, ones,
            volume[pool].ravel(), quote[pool].ravel(), np.ones(rows, np.int64), nothing, nothing,
            np.zeros(rows, np.bool_), np.ones(rows, np.bool_), times, times,
        ))  # fmt: skip
        updates += len(metrics)
    assert updates == UPDATES
    last = FRAMES * FRAME_MINUTES - 1
    for position, column in enumerate(columns):
        plane, n = (quote if column.startswith("quote") else volume), MINUTES[column.rsplit("_", 1)[1]]
        window = plane[np.arange(last - n + 1, last + 1) % POOL_MINUTES]
        fresh = [math.fsum(window[:, symbol]) for symbol in range(SYMBOLS)]
        np.testing.assert_allclose(metrics.values[-SYMBOLS:, position], fresh, rtol=1e-9)
