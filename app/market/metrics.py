"""Metrics as columns: what the calculator computes and every later stage reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import BoolArray, FloatArray, IndexArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class MetricsBatch:
    """One row per evaluated candle, in order of evaluation; per-row arrays have shape (rows,).

    values: shape (rows, len(columns)), float64, row-major; NaN is null. columns: names such as
    `price_change_1h` or `rsi_14_15m` (field, then timeframe), see `app.market.fields`.
    open_time_ms: the minute evaluated. closed: whether that minute was closed when evaluated.
    event_ts_ms, ingest_ts_ms: of the candle that caused the row.
    """

    symbols: tuple[str, ...]
    symbol_index: IndexArray
    open_time_ms: IntArray
    closed: BoolArray
    event_ts_ms: IntArray
    ingest_ts_ms: IntArray
    values: FloatArray
    columns: tuple[str, ...]
    exchange: str = "binance"

    @classmethod
    def empty(cls) -> Self:
        """Return a batch without rows, of one column."""
        none, times = np.zeros(0, np.bool_), np.zeros(0, np.int64)
        index = np.zeros(0, np.int32)
        return cls((), index, times, none, times, times, np.zeros((0, 1)), ("close_1m",))

    def __len__(self) -> int:
        return len(self.symbol_index)

    def symbol_of(self, row: int) -> str:
        return self.symbols[int(self.symbol_index[row])]

    def take(self, rows: NDArray[np.intp] | BoolArray | slice) -> Self:
        """Return the given rows (positions, a mask, or a slice), in that order; `symbols` is kept whole."""
        return replace(
            self,
            symbol_index=self.symbol_index[rows],
            open_time_ms=self.open_time_ms[rows],
            closed=self.closed[rows],
            event_ts_ms=self.event_ts_ms[rows],
            ingest_ts_ms=self.ingest_ts_ms[rows],
            values=self.values[rows],
        )

    def with_values(self, values: FloatArray, columns: tuple[str, ...]) -> Self:
        """Return the same rows with other columns."""
        return replace(self, values=values, columns=columns)
