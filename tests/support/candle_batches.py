"""Candle batches for tests, from a short notation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch


@dataclass(frozen=True, slots=True)
class Candle:
    """A flat candle at `price`; `minute` counts from 1970."""

    symbol: str
    minute: int
    price: float = 10.0
    closed: bool = True
    ingest_ts_ms: int = 0


def batch_of(candles: Sequence[Candle]) -> CandleBatch:
    """Return a batch of these rows in this order."""
    symbols = tuple(dict.fromkeys(candle.symbol for candle in candles))
    price = np.array([candle.price for candle in candles], dtype=np.float64)
    open_time_ms = np.array([candle.minute for candle in candles], dtype=np.int64) * MINUTE_MS
    return CandleBatch(
        symbols=symbols,
        symbol_index=np.array([symbols.index(candle.symbol) for candle in candles], dtype=np.int32),
        open_time_ms=open_time_ms,
        open=price,
        high=price,
        low=price,
        close=price,
        volume=np.ones(len(candles)),
        quote_volume=price * 1.0,
        trades=np.ones(len(candles), dtype=np.int64),
        taker_buy_volume=np.full(len(candles), np.nan),
        taker_buy_quote_volume=np.full(len(candles), np.nan),
        quote_estimated=np.zeros(len(candles), dtype=np.bool_),
        closed=np.array([candle.closed for candle in candles], dtype=np.bool_),
        event_ts_ms=open_time_ms + MINUTE_MS,
        ingest_ts_ms=np.array([candle.ingest_ts_ms for candle in candles], dtype=np.int64),
    )


def rows_of(batch: CandleBatch) -> list[Candle]:
    return [
        Candle(batch.symbol_of(row), open_ms // MINUTE_MS, close, closed, ingest)
        for row, (open_ms, close, closed, ingest) in enumerate(
            zip(
                batch.open_time_ms.tolist(),
                batch.close.tolist(),
                batch.closed.tolist(),
                batch.ingest_ts_ms.tolist(),
                strict=True,
            )
        )
    ]
