"""The steps of a program, run with NumPy over the rows of a batch: cells with the columns, then with the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, BoolArray, FloatArray
from app.market.metrics import MetricsBatch
from app.rules.evaluation.builder import NO_STEP, ProgramClause
from app.rules.evaluation.slots import ProgramStep

Cells = list[Any]


def fill_moments(cells: Cells, moments: Mapping[int, int], batch: MetricsBatch) -> None:
    """Fill the cells that hold whether a row ends a bar. moments: cell -> minutes of the bar."""
    for cell, minutes in moments.items():
        minute = batch.open_time_ms // MINUTE_MS
        cells[cell] = batch.closed & (minute % minutes == minutes - 1)


def fill_rows_of(cells: Cells, rows_of: Mapping[int, str], batch: MetricsBatch) -> None:
    """Fill the cells that tell which rows are of a symbol."""
    for cell, symbol in rows_of.items():
        wanted = batch.symbols.index(symbol) if symbol in batch.symbols else -1
        cells[cell] = batch.symbol_index == wanted


def run(cells: Cells, steps: Sequence[ProgramStep]) -> None:
    """Fill the cells of the steps that are still empty (None)."""
    for step in steps:
        out = step.out
        if cells[out] is None:
            right = step.right
            if right == NO_STEP:
                cells[out] = step.kernel(cells[step.left])
            else:
                cells[out] = step.kernel(cells[step.left], cells[right])


def where_all(cells: Cells, clauses: Sequence[ProgramClause], among: BoolArray | None) -> BoolArray | None:
    """Return the rows in which every clause is true, of the rows in `among` (None: all); None without any.

    Clauses behind the first that leaves no row are not computed.
    """
    mask: BoolArray | None = among
    for clause in clauses:
        if cells[clause.out] is None:
            run(cells, clause.steps)
        truth = cells[clause.out]
        mask = truth if mask is None else np.logical_and(mask, truth)
        if not np.count_nonzero(mask):
            return None
    return mask


class Gather:
    """Copies the columns that a program reads from the row-major values of a batch, each contiguous."""

    def __init__(self, columns: dict[int, str]) -> None:
        self._cells = list(columns)
        self._names = list(columns.values())
        self._seen: tuple[str, ...] = ()
        self._positions: NDArray[np.intp] = np.zeros(0, np.intp)
        self._missing: list[int] = []

    def into(self, cells: Cells, values: FloatArray, columns: tuple[str, ...]) -> FloatArray:
        """Fill the cells; a column that the batch does not have is null in every row.

        Returns the columns together, shape (columns of the program, rows).
        """
        if columns != self._seen:
            position = {name: at for at, name in enumerate(columns)}
            self._positions = np.array([position.get(name, 0) for name in self._names], np.intp)
            self._missing = [at for at, name in enumerate(self._names) if name not in position]
            self._seen = columns
        block: FloatArray = np.ascontiguousarray(values.take(self._positions, axis=1).T)
        for at in self._missing:
            block[at] = np.nan
        for cell, column in zip(self._cells, block, strict=True):
            cells[cell] = column
        return block
