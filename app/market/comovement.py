"""How the symbols moved together with one of them: correlation and beta of their 1-minute returns.

Sums are made anew at every minute, from the same values in the same order, so they neither drift nor depend on where
the history began. Returns are taken relative to the window's first one: that keeps the digits, and gives a constant
symbol the variance 0 exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, FloatArray, IntArray
from app.compiled import kernel

RETURN_COLUMN: Final = "price_change_1m"
"""The metric that is the return of a minute."""
_NO_MINUTE: Final = -1


@dataclass(frozen=True, slots=True)
class Comovement:
    """Correlation and beta of each symbol with the reference, shape (symbols,); null where a return of the window is
    unknown or a variance is 0."""

    correlation: FloatArray
    beta: FloatArray


class MinuteReturns:
    """The last returns of all symbols, by minute; 8 bytes per symbol and minute."""

    def __init__(self, minutes: int) -> None:
        self.minute = np.full(minutes, _NO_MINUTE, np.int64)
        self.returns = np.zeros((minutes, 0))
        self.column: dict[str, int] = {}

    @property
    def minutes(self) -> int:
        """How many minutes it keeps."""
        return len(self.minute)

    @property
    def known_minutes(self) -> int:
        return int(np.count_nonzero(self.minute != _NO_MINUTE))

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self.column)

    def take(self, open_time_ms: int, symbols: Sequence[str], returns: FloatArray) -> None:
        """Note one minute, all of its symbols; it replaces what was known of the minute."""
        minute = open_time_ms // MINUTE_MS
        slot = minute % self.minutes
        if minute < self.minute[slot]:
            return
        columns = self._columns(symbols)
        self.minute[slot] = minute
        self.returns[slot] = np.nan
        self.returns[slot, columns] = returns

    def comovement(
        self, reference: str, open_time_ms: int, minutes: int, symbols: Sequence[str]
    ) -> Comovement:
        """Return correlation and beta of these symbols over the `minutes` up to the one opened at `open_time_ms`."""
        columns = self._columns(symbols)
        first = open_time_ms // MINUTE_MS - minutes + 1
        wanted = np.arange(first, first + minutes)
        slots = wanted % self.minutes
        column = self.column.get(reference)
        if column is None or (self.minute[slots] != wanted).any():
            return Comovement(np.full(len(columns), np.nan), np.full(len(columns), np.nan))
        of_reference = self.returns[slots, column] - self.returns[slots[0], column]
        sums = np.zeros((3, self.returns.shape[1]))
        _sum(self.returns, slots, of_reference, sums)
        mean, square, product = sums[:, columns] / minutes
        reference_mean = of_reference.sum() / minutes
        with np.errstate(all="ignore"):
            variance = square - mean**2
            reference_variance = float((of_reference**2).sum() / minutes - reference_mean**2)
            covariance = product - mean * reference_mean
            moves = (variance > 0) & (reference_variance > 0)
            correlation = np.clip(covariance / np.sqrt(variance * reference_variance), -1.0, 1.0)
            beta = covariance / reference_variance
        known = ~np.isnan(variance) & (reference_variance > 0)
        return Comovement(np.where(moves, correlation, np.nan), np.where(known, beta, np.nan))

    def keep(self, minutes: int) -> MinuteReturns:
        """Return these returns with room for so many minutes."""
        if minutes == self.minutes:
            return self
        found = MinuteReturns(minutes)
        found._columns(self.symbols)
        for slot in np.argsort(self.minute).tolist():
            if self.minute[slot] != _NO_MINUTE:
                found.take(
                    int(self.minute[slot]) * MINUTE_MS,
                    self.symbols,
                    self.returns[slot, : len(self.column)],
                )
        return found

    def complete(self, other: MinuteReturns) -> None:
        """Take the minutes that are unknown here from another memory with the same room."""
        for slot in np.flatnonzero(other.minute > self.minute).tolist():
            minute_ms = int(other.minute[slot]) * MINUTE_MS
            self.take(minute_ms, other.symbols, other.returns[slot, : len(other.column)])

    def forget(self, symbols: Collection[str]) -> None:
        kept = [symbol for symbol in self.column if symbol not in symbols]
        self.returns = self.returns[:, [self.column[symbol] for symbol in kept]]
        self.column = {symbol: at for at, symbol in enumerate(kept)}

    def pack(self) -> tuple[IntArray, FloatArray]:
        """Return the minutes and their returns, (minutes, symbols) in the order of `symbols`, for `restore`."""
        return self.minute, self.returns[:, : len(self.column)]

    @classmethod
    def restore(cls, symbols: Sequence[str], minutes: IntArray, returns: FloatArray) -> MinuteReturns:
        """Return the memory that `pack` packed. Raises ValueError for arrays of other shapes."""
        if returns.shape != (len(minutes), len(symbols)):
            raise ValueError(
                f"{len(symbols)} symbols, {len(minutes)} minutes, returns of shape {returns.shape}"
            )
        found = cls(len(minutes))
        found.column = {symbol: at for at, symbol in enumerate(symbols)}
        found.minute, found.returns = minutes.copy(), returns.copy()
        return found

    def _columns(self, symbols: Sequence[str]) -> NDArray[np.intp]:
        """Return the columns of the symbols; a new symbol gets one without known returns."""
        for symbol in symbols:
            self.column.setdefault(symbol, len(self.column))
        room = self.returns.shape[1]
        if len(self.column) > room:
            more = max(len(self.column), 2 * room) - room
            self.returns = np.pad(self.returns, ((0, 0), (0, more)), constant_values=np.nan)
        return np.array([self.column[symbol] for symbol in symbols], np.intp)


@kernel
def _sum(returns: FloatArray, slots: IntArray, of_reference: FloatArray, sums: FloatArray) -> None:
    """Add up the returns relative to the first one, their squares, and their products with those of the reference."""
    first = returns[slots[0]]
    for at in range(len(slots)):
        row, other = returns[slots[at]], of_reference[at]
        for symbol in range(len(row)):
            moved = row[symbol] - first[symbol]
            sums[0, symbol] += moved
            sums[1, symbol] += moved * moved
            sums[2, symbol] += moved * other
