"""Which computations a set of columns needs, so that a backtest pays only for what its rules read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Final

import numpy as np

from app.market.fields import COLUMN_POSITION, METRIC_COLUMNS, NEEDS, Need
from app.market.timeframes import TIMEFRAMES


class Plan:
    """What to compute for `columns`.

    positions: (len(columns),), place of each column in a row of all; empty when they are all. needs: what they are
    computed from. timeframes: one bit for each, the lowest for the shortest, set if its prices or windows are wanted.
    Raises ValueError for a column that does not exist.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        unknown = [column for column in columns if column not in COLUMN_POSITION]
        if unknown:
            raise ValueError(f"unknown metric columns: {', '.join(unknown)}; see app.market.fields")
        self.columns = tuple(columns)
        positions = [] if self.columns == METRIC_COLUMNS else [COLUMN_POSITION[name] for name in columns]
        self.positions = np.array(positions, dtype=np.int64)
        self.needs = reduce(or_, (NEEDS[column] for column in columns), Need.NOTHING)
        self.recursive = Need.RECURSIVE in self.needs
        self.timeframes = reduce(or_, (_timeframe_bit(column) for column in columns), 0)


def _timeframe_bit(column: str) -> int:
    """Return the bit of the column's timeframe, 0 for a column that needs no window."""
    if column in _TEN_MINUTES:
        return 1 << _NAMES.index("5m")
    if Need.BARS in NEEDS[column] or Need.SINCE in NEEDS[column]:
        return 0
    return 1 << _NAMES.index(column.rpartition("_")[2])


_NAMES: Final = tuple(TIMEFRAMES)
_TEN_MINUTES: Final = ("high_10m", "low_10m")
"""Made of two windows of 5m."""
