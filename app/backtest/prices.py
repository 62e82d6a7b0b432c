"""Closing prices of a whole period, day by day: the newest days in memory, the others where the caller keeps them."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch, FloatArray, IntArray

DAY_MINUTES: Final = 1440
MEMORY_CLOSES: Final = 4_000_000
"""32 MB."""
_DAYS_IN_MEMORY: Final = 2
"""At least: an alert and all its horizons lie within so many days."""


class KeptDays(Protocol):
    """Storage for days of closes that are too many for the memory. day: since 1970."""

    def put(self, day: int, closes: FloatArray) -> None:
        """Keep the closes, shape (symbols, 1440); they replace earlier ones of the day."""
        ...

    def get(self, day: int) -> FloatArray:
        """Return the closes that `put` was given."""
        ...

    def row(self, day: int, symbol: int) -> FloatArray:
        """Return the closes of one symbol, shape (1440,); NaN for a symbol that the day does not have."""
        ...


class ClosePrices:
    """Closes of closed candles by minute and symbol, 8 bytes each; NaN without a candle.

    kept: storage for the oldest days once more than `memory_closes` are in memory; without it all days stay in
    memory.
    """

    def __init__(self, kept: KeptDays | None = None, memory_closes: int = MEMORY_CLOSES) -> None:
        self.symbols: dict[str, int] = {}
        """Symbol -> its column."""
        self.minutes = 0
        """From the first to the last recorded minute, inclusive."""
        self._first_minute = 0
        self._kept = kept
        self._memory_closes = memory_closes
        self._days: dict[int, FloatArray] = {}
        """Day since 1970 -> closes, shape (1440, symbols)."""
        self._days_kept: set[int] = set()

    @property
    def first_ms(self) -> int:
        return self._first_minute * MINUTE_MS

    def record(self, batch: CandleBatch) -> None:
        """Take the closed candles; a later one for the same minute replaces the earlier."""
        closed = np.flatnonzero(batch.closed)
        if not len(closed):
            return
        index = batch.symbol_index[closed]
        known = self.symbols
        positions = np.zeros(len(batch.symbols), np.intp)
        for at in np.unique(index).tolist():
            positions[at] = known.setdefault(batch.symbols[at], len(known))
        columns, closes = positions[index], batch.close[closed]
        minutes = batch.open_time_ms[closed] // MINUTE_MS
        self._reach(int(minutes.min()), int(minutes.max()))
        days, minute_of_day = np.divmod(minutes, DAY_MINUTES)
        for day in np.unique(days).tolist():
            rows = np.flatnonzero(days == day)
            self._day(day)[minute_of_day[rows], columns[rows]] = closes[rows]
        self._keep_oldest()

    def _reach(self, first: int, last: int) -> None:
        if self.minutes:
            last = max(last, self._first_minute + self.minutes - 1)
            first = min(first, self._first_minute)
        self._first_minute, self.minutes = first, last - first + 1

    def _day(self, day: int) -> FloatArray:
        """Return the closes of the day, with room for all symbols; the array is in memory until `_keep_oldest`."""
        closes = self._days.get(day)
        if closes is None and day in self._days_kept:
            assert self._kept is not None
            closes = self._kept.get(day).T.copy()
            self._days_kept.discard(day)
        if closes is None:
            closes = np.full((DAY_MINUTES, len(self.symbols)), np.nan)
        if closes.shape[1] < len(self.symbols):
            wider = np.full((DAY_MINUTES, max(len(self.symbols), 2 * closes.shape[1])), np.nan)
            wider[:, : closes.shape[1]] = closes
            closes = wider
        self._days[day] = closes
        return closes

    def _keep_oldest(self) -> None:
        if self._kept is None:
            return
        while (
            len(self._days) > _DAYS_IN_MEMORY
            and len(self._days) * DAY_MINUTES * len(self.symbols) > self._memory_closes
        ):
            oldest = min(self._days)
            self._kept.put(oldest, np.ascontiguousarray(self._days.pop(oldest).T))
            self._days_kept.add(oldest)

    def at(self, minutes: IntArray, columns: IntArray) -> FloatArray:
        """Return the closes of these symbols at these minutes since 1970; NaN if unknown."""
        found = np.full(len(minutes), np.nan)
        days, minute_of_day = np.divmod(minutes, DAY_MINUTES)
        for day in np.unique(days).tolist():
            if day in self._days or day in self._days_kept:
                rows = np.flatnonzero(days == day)
                found[rows] = self._day(day)[minute_of_day[rows], columns[rows]]
        self._keep_oldest()
        return found

    def series(self, column: int) -> FloatArray:
        """Return the closes of one symbol, shape (minutes,); NaN without a candle."""
        first_day = self._first_minute // DAY_MINUTES
        last_day = (self._first_minute + self.minutes - 1) // DAY_MINUTES
        closes = np.full((last_day - first_day + 1, DAY_MINUTES), np.nan)
        for day in range(first_day, last_day + 1):
            if day in self._days_kept:
                assert self._kept is not None
                closes[day - first_day] = self._kept.row(day, column)
            elif day in self._days and column < self._days[day].shape[1]:
                closes[day - first_day] = self._days[day][:, column]
        start = self._first_minute - first_day * DAY_MINUTES
        return closes.ravel()[start : start + self.minutes]
