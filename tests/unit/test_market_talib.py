"""Closed-bar values equal TA-Lib's on the same bars of the real files."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow.parquet as pq
import pytest
import talib

from app.candles.batch import CandleBatch
from app.market.fields import BAR_FIELDS
from app.market.matrix import MarketMatrix
from tests.support.market_batches import batch_of_table
from tests.support.market_data import ALTCOINS_2021, FULL_2024, market_data_dir
from tests.support.market_oracle import MINUTES

FILES = (ALTCOINS_2021, FULL_2024)


@cache
def candles_of(file: str) -> CandleBatch:
    return batch_of_table(pq.read_table(market_data_dir() / file))


@cache
def metrics_of(file: str) -> dict[str, dict[str, np.ndarray]]:
    """Symbol -> column -> value at every minute, of the whole file in frames of 600 rows."""
    candles = candles_of(file)
    columns = tuple(f"{field}_{timeframe}" for timeframe in MINUTES for field in BAR_FIELDS)
    matrix = MarketMatrix(columns=columns)
    frames = [matrix.update(candles.take(slice(at, at + 600))) for at in range(0, len(candles), 600)]
    values = np.concatenate([frame.values for frame in frames])
    symbol = np.concatenate([frame.symbol_index for frame in frames])
    return {
        name: dict(zip(columns, values[symbol == position].T, strict=True))
        for position, name in enumerate(candles.symbols)
    }


def bars_of(candles: CandleBatch, position: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """High, low and close of every clock-aligned bar of n minutes; the files begin at 00:00 UTC."""
    of_symbol = np.flatnonzero(candles.symbol_index == position)
    whole = len(of_symbol) // n * n
    high, low, close = (
        getattr(candles, name)[of_symbol][:whole].reshape(-1, n) for name in ("high", "low", "close")
    )
    return high.max(axis=1), low.min(axis=1), np.ascontiguousarray(close[:, -1])


def talib_fields(high: np.ndarray, low: np.ndarray, close: np.ndarray) -> dict[str, np.ndarray]:
    macd, signal, hist = talib.MACD(close, 12, 26, 9)
    upper, middle, lower = talib.BBANDS(close, 20, 2, 2)
    return {
        "rsi_14": talib.RSI(close, 14),
        "macd": macd, "macd_signal": signal, "macd_hist": hist,
        "bb_upper": upper, "bb_middle": middle, "bb_lower": lower,
        "atr_14": talib.ATR(high, low, close, 14),
        "ema_20": talib.EMA(close, 20), "ema_50": talib.EMA(close, 50),
    }  # fmt: skip


@pytest.mark.parametrize("timeframe", MINUTES)
@pytest.mark.parametrize("file", FILES)
def test_closed_bars_of_every_symbol_equal_ta_lib(file: str, timeframe: str) -> None:
    candles, n, compared = candles_of(file), MINUTES[timeframe], 0
    for position, symbol in enumerate(candles.symbols):
        high, low, close = bars_of(candles, position, n)
        for field, expected in talib_fields(high, low, close).items():
            found = metrics_of(file)[symbol][f"{field}_{timeframe}"][n - 1 :: n]
            # Differences of prices are compared on the scale of the price: their own rounding is of that
            # size.
            scale = 1e-9 * close.max() if field.startswith("macd") else 0.0
            np.testing.assert_allclose(
                found, expected, rtol=1e-9, atol=scale * 1e-3, err_msg=f"{symbol} {field}"
            )
            compared += int(np.isfinite(expected).sum())
    assert compared > 0 or timeframe in ("8h", "1d")
