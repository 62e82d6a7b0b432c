"""Which computations a set of columns needs, so that a backtest pays only for what its rules read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.market.columns import (
    BAR_FIELDS,
    COLUMN_POSITION,
    FIELDS,
    METRIC_COLUMNS,
    PIVOT_FIELDS,
    SINGLE_COLUMNS,
)
from app.market.timeframes import TIMEFRAMES

_FIELD_OF = {f"{field}_{timeframe}": field for timeframe in TIMEFRAMES for field in FIELDS}
_TRADES_FIELDS = frozenset({"trades"})
_VOLUME_FIELDS = frozenset({"base_volume", "vwap", "vcp"})
_EXTREME_FIELDS = frozenset({"high", "low", "vcp", *PIVOT_FIELDS, "high_10m", "low_10m"})
_BAR_PREFIXES = ("ichimoku", "bubble", "surge")


class Plan:
    """What to compute for `columns`.

    fields: those computed, for all seven timeframes, in order. singles: columns without a timeframe, in
    order. positions: (len(columns),), row of each column in the computed buffer of 7 x fields, then singles;
    None when the buffer's rows are the columns themselves. Raises ValueError for a column that does not
    exist.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        unknown = [column for column in columns if column not in COLUMN_POSITION]
        if unknown:
            raise ValueError(f"no such metric columns: {', '.join(unknown)}; see app.market.columns")
        self.columns = tuple(columns)
        wanted = {_FIELD_OF[column] for column in columns if column in _FIELD_OF}
        self.fields = tuple(field for field in FIELDS if field in wanted)
        self.singles = tuple(column for column in SINGLE_COLUMNS if column in set(columns))
        self.field_row: dict[str, int] = {field: row for row, field in enumerate(self.fields)}
        self.single_row: dict[str, int] = {column: row for row, column in enumerate(self.singles)}
        self.positions = None if self.columns == METRIC_COLUMNS else self._positions()

        self._wanted = wanted | set(self.singles)
        self.recursive = not wanted.isdisjoint(BAR_FIELDS)
        self.bars = self.recursive or any(single.startswith(_BAR_PREFIXES) for single in self.singles)
        self.extremes = self.bars or self.wants(*_EXTREME_FIELDS)
        vwap_since = any(single.startswith("vwap") for single in self.singles)
        if not wanted.isdisjoint(_TRADES_FIELDS):
            self.sum_planes = 4
        elif vwap_since or not wanted.isdisjoint(_VOLUME_FIELDS):
            self.sum_planes = 3
        else:
            self.sum_planes = 2
        self.previous = "volume_ratio" in wanted
        self.windows = not wanted.isdisjoint(
            set(FIELDS) - set(BAR_FIELDS) - {"open", "close", "price_change"}
        ) or not {"high_10m", "low_10m"}.isdisjoint(self.singles)

    def _positions(self) -> np.ndarray:
        buffer = [f"{field}_{timeframe}" for timeframe in TIMEFRAMES for field in self.fields] + list(
            self.singles
        )
        row = {column: position for position, column in enumerate(buffer)}
        return np.array([row[column] for column in self.columns], dtype=np.intp)

    def wants(self, *names: str) -> bool:
        """Whether any of these fields or single columns is asked for."""
        return not self._wanted.isdisjoint(names)
