"""Closed candles of one symbol from its closes, and files of real candles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq

from app.candles.batch import MINUTE_MS, CandleBatch
from tests.support.market_data import market_data_dir

START_MS = 1_618_617_600_000
"""2021-04-17 00:00 UTC."""


def candles(closes: Sequence[float], symbol: str = "AUSDT", start: int = 0) -> CandleBatch:
    """Return flat candles, one per minute, from START_MS + `start` minutes on."""
    close = np.array(closes)
    rows = len(close)
    open_time_ms = START_MS + MINUTE_MS * (start + np.arange(rows))
    return CandleBatch(
        symbols=(symbol,),
        symbol_index=np.zeros(rows, np.int32),
        open_time_ms=open_time_ms,
        open=close,
        high=close,
        low=close,
        close=close,
        volume=np.ones(rows),
        quote_volume=close,
        trades=np.ones(rows, np.int64),
        taker_buy_volume=np.full(rows, np.nan),
        taker_buy_quote_volume=np.full(rows, np.nan),
        quote_estimated=np.zeros(rows, np.bool_),
        closed=np.ones(rows, np.bool_),
        event_ts_ms=open_time_ms + MINUTE_MS,
        ingest_ts_ms=np.zeros(rows, np.int64),
    )


def history_of(name: str) -> CandleBatch:
    """Return the candles of a file in the market data folder, in order of time."""
    table = pq.read_table(market_data_dir() / name)
    column = {field: table.column(field).to_numpy() for field in table.column_names}
    symbols, index = np.unique(column["symbol"].astype(str), return_inverse=True)
    rows = len(index)
    history = CandleBatch(
        symbols=tuple(symbols.tolist()),
        symbol_index=index.astype(np.int32),
        open_time_ms=column["open_time_ms"].astype(np.int64),
        **{field: column[field].astype(np.float64) for field in ("open", "high", "low", "close", "volume")},
        quote_volume=column["quote_volume"].astype(np.float64),
        trades=column["trades"].astype(np.int64),
        taker_buy_volume=np.full(rows, np.nan),
        taker_buy_quote_volume=np.full(rows, np.nan),
        quote_estimated=np.zeros(rows, np.bool_),
        closed=np.ones(rows, np.bool_),
        event_ts_ms=column["open_time_ms"].astype(np.int64) + MINUTE_MS,
        ingest_ts_ms=np.zeros(rows, np.int64),
    )
    return history.take(np.argsort(history.open_time_ms, kind="stable"))
