"""Indicators of any length equal TA-Lib's at the closed bars of the real files, and the fields of the same length."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow.parquet as pq
import pytest
import talib

from app.candles.batch import CandleBatch
from app.market.matrix import MarketMatrix
from app.rules.evaluation.builder import Builder
from app.rules.evaluation.program import run
from app.rules.evaluation.slot_memory import Reader
from app.rules.language.parser import parse_number
from app.rules.language.walks import columns_of
from tests.support.market_batches import batch_of_table
from tests.support.market_data import ALTCOINS_2021, FULL_2024, market_data_dir
from tests.support.market_oracle import MINUTES

SYMBOLS = 4


class Bars:
    def __init__(self, candles: CandleBatch, position: int, minutes: int) -> None:
        rows = np.flatnonzero(candles.symbol_index == position)
        whole = len(rows) // minutes * minutes

        def by_bar(name: str) -> np.ndarray:
            return getattr(candles, name)[rows][:whole].reshape(-1, minutes).astype(float)

        self.open = np.ascontiguousarray(by_bar("open")[:, 0])
        self.high, self.low = by_bar("high").max(axis=1), by_bar("low").min(axis=1)
        self.close = np.ascontiguousarray(by_bar("close")[:, -1])
        self.volume, self.quote = by_bar("volume").sum(axis=1), by_bar("quote_volume").sum(axis=1)

    @property
    def range(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.high, self.low, self.close


def _ema_of_rsi(bars: Bars) -> np.ndarray:
    inner = talib.RSI(bars.close, 14)
    known = ~np.isnan(inner)
    found = np.full(len(inner), np.nan)
    found[known] = talib.EMA(inner[known], 9) if known.sum() >= 9 else np.nan
    return found


EXPECTED = {
    "sma(close, 30, TF)": lambda b: talib.SMA(b.close, 30),
    "sma(hlc3, 7, TF)": lambda b: talib.SMA(talib.TYPPRICE(*b.range), 7),
    "ema(close, 9, TF)": lambda b: talib.EMA(b.close, 9),
    "ema(ohlc4, 21, TF)": lambda b: talib.EMA(talib.AVGPRICE(b.open, *b.range), 21),
    "ema(rsi(close, 14, TF), 9, TF)": _ema_of_rsi,
    "rsi(close, 7, TF)": lambda b: talib.RSI(b.close, 7),
    "rsi(hl2, 2, TF)": lambda b: talib.RSI(talib.MEDPRICE(b.high, b.low), 2),
    "atr(10, TF)": lambda b: talib.ATR(*b.range, 10),
    "roc(close, 12, TF)": lambda b: talib.ROC(b.close, 12),
    "macd(close, 5, 13, TF)": lambda b: talib.MACD(b.close, 5, 13, 1)[0],
    "macd_signal(close, 5, 13, 4, TF)": lambda b: talib.MACD(b.close, 5, 13, 4)[1],
    "stoch_k(14, TF)": lambda b: talib.STOCHF(*b.range, 14, 1)[0],
    "adx(14, TF)": lambda b: talib.ADX(*b.range, 14),
    "adx(5, TF)": lambda b: talib.ADX(*b.range, 5),
    "obv(TF)": lambda b: talib.OBV(b.close, b.volume),
    "donchian_high(20, TF)": lambda b: talib.MAX(b.high, 20),
    "donchian_low(20, TF)": lambda b: talib.MIN(b.low, 20),
    "sma(quote_volume, 5, TF)": lambda b: talib.SMA(b.quote, 5),
}
SMALL = ("macd", "stddev")
"""Differences of prices, whose own rounding is of the price's size."""


@cache
def candles_of(file: str) -> CandleBatch:
    candles = batch_of_table(pq.read_table(market_data_dir() / file))
    return candles.take(np.flatnonzero(candles.symbol_index < SYMBOLS))


def values_of(file: str, texts: list[str]) -> dict[str, np.ndarray]:
    """Text -> (minutes, symbols), read in frames of 601 rows."""
    candles, builder = candles_of(file), Builder()
    nodes = [parse_number(text) for text in texts]
    cells = [builder.number(node) for node in nodes]
    steps = [step for cell in cells for step in builder.steps_for(cell)]
    matrix = MarketMatrix(columns=tuple(dict.fromkeys(name for node in nodes for name in columns_of(node))))
    reader, found, symbols = Reader(builder), [], []
    for at in range(0, len(candles), 601):
        metrics = matrix.update(candles.take(slice(at, at + 601)))
        read = reader.read(metrics)
        with np.errstate(all="ignore"):
            run(read, steps)
        found.append(np.stack([read[cell] for cell in cells]))
        symbols.append(metrics.symbol_index)
    values, symbol = np.concatenate(found, axis=1), np.concatenate(symbols)
    return {
        text: np.stack([row[symbol == position] for position in range(symbol.max() + 1)], axis=1)
        for text, row in zip(texts, values, strict=True)
    }


@pytest.mark.parametrize("timeframe", ["1m", "15m", "4h"])
@pytest.mark.parametrize("file", [ALTCOINS_2021, FULL_2024])
def test_closed_bars_equal_ta_lib(file: str, timeframe: str) -> None:
    texts, minutes = [text.replace("TF", timeframe) for text in EXPECTED], MINUTES[timeframe]
    found = values_of(file, texts)
    for position in range(found[texts[0]].shape[1]):
        bars = Bars(candles_of(file), position, minutes)
        for text, expected in zip(texts, EXPECTED.values(), strict=True):
            scale = 1e-12 * bars.close.max() if text.startswith(SMALL) else 0.0
            np.testing.assert_allclose(
                found[text][minutes - 1 :: minutes, position],
                expected(bars) if len(bars.close) > 1 else np.nan,
                rtol=1e-9,
                atol=scale,
                err_msg=f"{text} of symbol {position}",
            )


def test_the_deviation_equals_that_of_the_bars_themselves() -> None:
    """TA-Lib's own loses half of the digits: it subtracts a square of the mean."""
    found = values_of(FULL_2024, ["stddev(close, 20, 15m)"])["stddev(close, 20, 15m)"]
    closes = Bars(candles_of(FULL_2024), 0, 15).close
    expected = np.lib.stride_tricks.sliding_window_view(closes, 20).std(axis=1)
    np.testing.assert_allclose(found[14::15, 0][19:], expected, rtol=1e-9)


def test_a_length_that_a_field_has_gives_the_field() -> None:
    pairs = {
        "rsi(close, 14, 15m)": "rsi_14_15m",
        "ema(close, 50, 5m)": "ema_50_5m",
        "atr(14, 1h)": "atr_14_1h",
    }
    found = values_of(FULL_2024, [*pairs, *pairs.values()])
    for text, field in pairs.items():
        np.testing.assert_allclose(found[text], found[field], rtol=1e-12)
