"""Which column of the state belongs to which symbol."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import CandleBatch
from app.market.rings.state import State

_SPARE: Final = 64
"""Columns that may always be unused: too few to be worth a copy of the others."""


class SymbolColumns:
    """Gives columns to symbols as they appear. Columns of dropped symbols are given out again; memory is freed when
    more columns are unused than used."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._column: dict[str, int] = {}
        self._free: list[int] = []
        self._last: tuple[tuple[str, ...], NDArray[np.intp]] = ((), np.empty(0, np.intp))
        """The symbols of the last batch, and their columns."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._column)

    def items(self) -> list[tuple[str, int]]:
        """Return every symbol with its column, in order of appearance."""
        return list(self._column.items())

    def columns_of(self, batch: CandleBatch) -> NDArray[np.intp]:
        """(rows,) the column of each row's symbol; new symbols get one, unused names of the batch do not."""
        names, columns = self._last
        if batch.symbols == names:
            return columns[batch.symbol_index]
        column = self._column
        columns = np.array([column.get(symbol, -1) for symbol in batch.symbols], dtype=np.intp)
        by_row = columns[batch.symbol_index]
        if not (by_row < 0).any():
            if not (columns < 0).any():
                self._last = batch.symbols, columns
            return by_row
        new = np.unique(batch.symbol_index[by_row < 0]).tolist()
        self._state.grow(self._state.used + len(new) - len(self._free))
        for position in new:
            columns[position] = self.add(batch.symbols[position])
        return columns[batch.symbol_index]

    def add(self, symbol: str) -> int:
        """Return the symbol's column, a new one if it has none."""
        if symbol in self._column:
            return self._column[symbol]
        if self._free:
            column = self._free.pop()
        else:
            column = self._state.used
            self._state.grow(column + 1)
            self._state.used = column + 1
        self._column[symbol] = column
        return column

    def drop(self, symbol: str) -> None:
        column = self._column.pop(symbol, None)
        if column is not None:
            self._last = ((), np.empty(0, np.intp))
            self._state.reset(column)
            self._free.append(column)
            self._shrink()

    def _shrink(self) -> None:
        unused = self._state.capacity - len(self._column)
        if unused <= max(_SPARE, len(self._column)):
            return
        self._state.keep(np.array(list(self._column.values()), dtype=np.intp))
        self._column = {symbol: column for column, symbol in enumerate(self._column)}
        self._free.clear()
