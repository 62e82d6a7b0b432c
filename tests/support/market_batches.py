"""Candle batches for tests of the matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from app.candles.batch import CandleBatch
from tests.support.market_oracle import Minute

Row = tuple[str, int, Minute, bool]
"""Symbol, minute since 1970, its candle, closed."""


def batch_of(rows: Sequence[Row]) -> CandleBatch:
    """Return a batch of these rows in this order. The event time is the row's position, the ingest time 1,000 more."""
    symbols = tuple(dict.fromkeys(row[0] for row in rows))
    n = len(rows)
    floats = {
        name: np.array([getattr(row[2], name) for row in rows], dtype=np.float64)
        for name in ("open", "high", "low", "close", "volume", "quote_volume")
    }
    return CandleBatch(
        symbols=symbols,
        symbol_index=np.array([symbols.index(row[0]) for row in rows], dtype=np.int32),
        open_time_ms=np.array([row[1] * 60_000 for row in rows], dtype=np.int64),
        trades=np.array([row[2].trades for row in rows], dtype=np.int64),
        taker_buy_volume=np.full(n, np.nan),
        taker_buy_quote_volume=np.full(n, np.nan),
        quote_estimated=np.zeros(n, dtype=np.bool_),
        closed=np.array([row[3] for row in rows], dtype=np.bool_),
        event_ts_ms=np.arange(n, dtype=np.int64),
        ingest_ts_ms=np.arange(n, dtype=np.int64) + 1_000,
        **floats,
    )


def batch_of_table(table: pa.Table) -> CandleBatch:
    """Return all rows of a market file as closed candles, in their order."""
    symbol = table["symbol"].combine_chunks().dictionary_encode()
    columns = {name: table[name].to_numpy() for name in table.column_names if name != "symbol"}
    rows = table.num_rows
    times = columns["open_time_ms"].astype(np.int64)
    return CandleBatch(
        symbols=tuple(symbol.dictionary.to_pylist()),
        symbol_index=symbol.indices.to_numpy().astype(np.int32),
        open_time_ms=times,
        trades=columns["trades"].astype(np.int64),
        taker_buy_volume=np.full(rows, np.nan),
        taker_buy_quote_volume=np.full(rows, np.nan),
        quote_estimated=np.zeros(rows, dtype=np.bool_),
        closed=np.ones(rows, dtype=np.bool_),
        event_ts_ms=times + 60_000,
        ingest_ts_ms=times + 60_000,
        **{
            name: columns[name].astype(np.float64)
            for name in ("open", "high", "low", "close", "volume", "quote_volume")
        },
    )
