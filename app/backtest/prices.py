"""Closing prices of a whole period, and what an entry at each minute would have returned."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, CandleBatch, FloatArray


class ClosePrices:
    """Closes of closed candles by minute and symbol, 8 bytes each; NaN where there is none."""

    def __init__(self) -> None:
        self.symbols: dict[str, int] = {}
        self._first_minute = 0
        self._minutes = 0
        self._closes: FloatArray = np.zeros((0, 0))

    @property
    def minutes(self) -> int:
        """From the first to the last minute recorded, inclusive."""
        return self._minutes

    @property
    def first_ms(self) -> int:
        return self._first_minute * MINUTE_MS

    @property
    def closes(self) -> FloatArray:
        """Shape (minutes, symbols)."""
        return self._closes[: self._minutes, : len(self.symbols)]

    def record(self, batch: CandleBatch) -> None:
        """Takes the closed candles; a later one for the same minute replaces the earlier."""
        closed = np.flatnonzero(batch.closed)
        if not len(closed):
            return
        index = batch.symbol_index[closed]
        known = self.symbols
        positions = np.zeros(len(batch.symbols), np.intp)
        for at in np.unique(index).tolist():
            positions[at] = known.setdefault(batch.symbols[at], len(known))
        minutes = batch.open_time_ms[closed] // MINUTE_MS
        self._reach(int(minutes.min()), int(minutes.max()))
        self._closes[minutes - self._first_minute, positions[index]] = batch.close[closed]

    def _reach(self, first: int, last: int) -> None:
        """Room for these minutes and all symbols; doubles, so that growing stays cheap."""
        if not self._minutes:
            self._first_minute = first
        before = max(0, self._first_minute - first)
        minutes = max(self._minutes + before, last - min(first, self._first_minute) + 1)
        have_minutes, have_symbols = self._closes.shape
        if before or minutes > have_minutes or len(self.symbols) > have_symbols:
            rows = minutes if minutes <= have_minutes else max(minutes, 2 * have_minutes, 1024)
            symbols = len(self.symbols) if len(self.symbols) <= have_symbols else 2 * len(self.symbols)
            larger = np.full((max(rows, have_minutes + before), max(symbols, have_symbols)), np.nan)
            larger[before : before + self._minutes, :have_symbols] = self._closes[: self._minutes]
            self._closes = larger
        self._first_minute -= before
        self._minutes = minutes

    def returns_pct(self, minutes: int) -> FloatArray:
        """Percent from each close to that `minutes` later, shape (minutes, symbols); NaN if unknown."""
        closes = self.closes
        returns = np.full(closes.shape, np.nan)
        if len(closes) > minutes:
            returns[:-minutes] = (closes[minutes:] / closes[:-minutes] - 1) * 100
        return returns

    def rows_of(self, open_times_ms: NDArray[np.int64]) -> NDArray[np.intp]:
        """Rows of `closes` for these minutes."""
        return (open_times_ms // MINUTE_MS - self._first_minute).astype(np.intp)
