"""Which column of the state belongs to which symbol."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import CandleBatch
from app.market.state import State


class SymbolColumns:
    """Gives columns to symbols as they appear; those of dropped symbols are given out again."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._column: dict[str, int] = {}
        self._free: list[int] = []

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._column)

    def items(self) -> list[tuple[str, int]]:
        """Every symbol with its column, in order of appearance."""
        return list(self._column.items())

    def columns_of(self, batch: CandleBatch) -> NDArray[np.intp]:
        """(rows,) the column of each row's symbol; new symbols get one, unused names of the batch do not."""
        column = self._column
        columns = np.array([column.get(symbol, -1) for symbol in batch.symbols], dtype=np.intp)
        by_row = columns[batch.symbol_index]
        if by_row.min() >= 0:
            return by_row
        new = np.unique(batch.symbol_index[by_row < 0]).tolist()
        self._state.grow(self._state.used + len(new) - len(self._free))
        for position in new:
            columns[position] = self.add(batch.symbols[position])
        return columns[batch.symbol_index]

    def add(self, symbol: str) -> int:
        """The symbol's column, a new one if it has none."""
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
            self._state.reset(np.array([column]))
            self._free.append(column)
