"""Columns of klines into candles, shared by the venues."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch, FloatArray, IntArray


def floats(values: Iterable[str | float]) -> FloatArray:
    """Raises ValueError or TypeError for what is no number."""
    return np.array([*map(float, values)], dtype=np.float64)


def integers(values: Iterable[int | str]) -> IntArray:
    """Raises ValueError or TypeError for what is no whole number."""
    return np.array([*map(int, values)], dtype=np.int64)


def closed_bars(
    symbol: str,
    rows: Sequence[Sequence[str | int]],
    *,
    exchange: str,
    interval_minutes: int,
    trades_at: int | None = None,
    quote_volume_at: int,
    taker_at: int | None = None,
) -> CandleBatch | None:
    """REST klines of one symbol, oldest first: rows of open time, open, high, low, close, volume and more.

    *_at: position in a row, None where the exchange does not give it (no trades: 0, no taker volumes: null).
    The event time of a bar is its end. None without rows.
    """
    if not rows:
        return None
    columns = list(zip(*rows, strict=True))
    count = len(rows)
    open_time_ms = integers(columns[0])
    end_ms = open_time_ms + interval_minutes * MINUTE_MS
    unknown = np.full(count, np.nan)
    return CandleBatch(
        symbols=(symbol,),
        symbol_index=np.zeros(count, dtype=np.int32),
        open_time_ms=open_time_ms,
        open=floats(columns[1]),
        high=floats(columns[2]),
        low=floats(columns[3]),
        close=floats(columns[4]),
        volume=floats(columns[5]),
        quote_volume=floats(columns[quote_volume_at]),
        trades=np.zeros(count, dtype=np.int64) if trades_at is None else integers(columns[trades_at]),
        taker_buy_volume=unknown if taker_at is None else floats(columns[taker_at]),
        taker_buy_quote_volume=unknown if taker_at is None else floats(columns[taker_at + 1]),
        quote_estimated=np.zeros(count, dtype=np.bool_),
        closed=np.ones(count, dtype=np.bool_),
        event_ts_ms=end_ms,
        ingest_ts_ms=end_ms,
        exchange=exchange,
    )
