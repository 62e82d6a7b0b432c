"""Candles as columns: the in-memory form of everything between the bridge and the calculator.

A batch holds the rows of one frame. Rows of one symbol may repeat (several minutes, or several updates of
one minute); their order in the batch is the order of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
IndexArray = NDArray[np.int32]
BoolArray = NDArray[np.bool_]

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True, eq=False)
class CandleBatch:
    """`rows` candles; every array has shape (rows,).

    symbols: the distinct symbols of the batch, sorted or not; `symbol_index` points into it per row.
    open_time_ms: UTC, a multiple of 60,000.
    open high low close: price in the quote asset. volume, taker_buy_volume: base asset.
    quote_volume, taker_buy_quote_volume: quote asset. trades: count.
    taker_*: NaN where the source does not give them. No other column holds NaN in a validated batch.
    quote_estimated: True where quote_volume was estimated as volume * (high + low + close) / 3.
    closed: False for a forming candle. event_ts_ms: the exchange's event time; for a closed candle without
    one, the end of its minute. ingest_ts_ms: when we first saw it.
    """

    symbols: tuple[str, ...]
    symbol_index: IndexArray
    open_time_ms: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    quote_volume: FloatArray
    trades: IntArray
    taker_buy_volume: FloatArray
    taker_buy_quote_volume: FloatArray
    quote_estimated: BoolArray
    closed: BoolArray
    event_ts_ms: IntArray
    ingest_ts_ms: IntArray
    exchange: str = "binance"

    @classmethod
    def empty(cls) -> Self:
        """Return a batch without candles."""
        columns: dict[str, Any] = {name: np.zeros(0, dtype) for name, dtype in DTYPES.items()}
        return cls(symbols=(), **columns)

    def __len__(self) -> int:
        return len(self.symbol_index)

    def symbol_of(self, row: int) -> str:
        return self.symbols[int(self.symbol_index[row])]

    def take(self, rows: NDArray[np.intp] | BoolArray | slice) -> Self:
        """Return the given rows (positions, a mask, or a slice), in that order; `symbols` is kept whole."""
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return type(self)(symbols=self.symbols, exchange=self.exchange, **columns)

    def compact(self) -> Self:
        """Return the same rows with only the symbols that occur in them."""
        used, index = np.unique(self.symbol_index, return_inverse=True)
        if len(used) == len(self.symbols):
            return self
        columns = {name: getattr(self, name) for name in COLUMNS if name != "symbol_index"}
        return type(self)(
            symbols=tuple(self.symbols[position] for position in used),
            symbol_index=index.astype(np.int32),
            exchange=self.exchange,
            **columns,
        )


COLUMNS: tuple[str, ...] = tuple(f.name for f in fields(CandleBatch) if f.name not in ("symbols", "exchange"))
"""The array columns, in order."""

DTYPES: dict[str, np.dtype[np.generic]] = {
    name: np.dtype(
        np.int32
        if name == "symbol_index"
        else np.bool_
        if name in ("closed", "quote_estimated")
        else np.int64
        if name.endswith("_ms") or name == "trades"
        else np.float64
    )
    for name in COLUMNS
}


def concatenate(batches: Sequence[CandleBatch]) -> CandleBatch:
    """Return one batch of all rows in order; symbols are merged. Needs at least one batch, all of one exchange."""
    position: dict[str, int] = {}
    indices = []
    for batch in batches:
        remap = np.array([position.setdefault(s, len(position)) for s in batch.symbols], dtype=np.int32)
        indices.append(remap[batch.symbol_index] if len(batch) else batch.symbol_index)
    columns = {
        name: np.concatenate([getattr(b, name) for b in batches])
        for name in COLUMNS
        if name != "symbol_index"
    }
    return CandleBatch(
        symbols=tuple(position),
        symbol_index=np.concatenate(indices),
        exchange=batches[0].exchange,
        **columns,
    )
