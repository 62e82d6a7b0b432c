"""Metrics as the database keeps them: one row per closed clock-aligned bar of a timeframe.

A metrics batch has one row per evaluated minute with the columns of all timeframes. The table has a row of a
timeframe of N minutes only where a bar of N ends: at closed minutes t with (t + 1) divisible by N, counted
from 1970. There the sliding window of N minutes is that bar, and the row's time is the bar's open time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.candles.batch import MINUTE_MS, FloatArray, IndexArray, IntArray
from app.market.fields import ELSEWHERE, EVERYWHERE
from app.market.metrics import MetricsBatch
from app.market.timeframes import TIMEFRAMES

TIMEFRAME_NAMES: Final = tuple(TIMEFRAMES)
_WITHOUT_TIMEFRAME: Final = "1m"
"""Columns without a timeframe are stored in the rows of one minute."""
VALUE_COLUMNS: Final = tuple(dict.fromkeys(field.database_column for field in (*EVERYWHERE, *ELSEWHERE)))
"""The value columns of metrics_calculated, in the order of `MetricRows.values`."""


def _sources() -> dict[str, list[tuple[int, str]]]:
    """Return timeframe -> (position in VALUE_COLUMNS, metric column) of its rows."""
    position = {name: i for i, name in enumerate(VALUE_COLUMNS)}
    sources: dict[str, list[tuple[int, str]]] = {name: [] for name in TIMEFRAME_NAMES}
    for field in (*EVERYWHERE, *ELSEWHERE):
        names = TIMEFRAME_NAMES if field.timeframes is None else field.timeframes or (_WITHOUT_TIMEFRAME,)
        for name in names:
            sources[name].append((position[field.database_column], field.column(name)))
    return sources


_SOURCES: Final = _sources()


@dataclass(frozen=True, slots=True, eq=False)
class MetricRows:
    """Rows of the table; per-row arrays have shape (rows,), values (rows, len(VALUE_COLUMNS)), NaN is null.

    timeframe: position in TIMEFRAME_NAMES. time_ms: open time of the bar, UTC.
    """

    symbols: tuple[str, ...]
    symbol_index: IndexArray
    timeframe: IndexArray
    time_ms: IntArray
    values: FloatArray

    def __len__(self) -> int:
        return len(self.symbol_index)


def metric_rows(batch: MetricsBatch) -> MetricRows:
    """Return the rows of all bars that end in the batch, in its order within each timeframe.

    A column missing from the batch is null: its sender is of another version than this code. A timeframe
    without any column has no rows.
    """
    minutes_after = batch.open_time_ms // MINUTE_MS + 1
    position = {name: i for i, name in enumerate(batch.columns)}
    parts = []
    for code, (name, minutes) in enumerate(TIMEFRAMES.items()):
        rows = np.flatnonzero(batch.closed & (minutes_after % minutes == 0))
        if len(rows) == 0:
            continue
        present = [(target, position[metric]) for target, metric in _SOURCES[name] if metric in position]
        if not present:
            continue
        values = np.full((len(rows), len(VALUE_COLUMNS)), np.nan)
        targets, sources = zip(*present, strict=True)
        values[:, list(targets)] = batch.values[np.ix_(rows, np.array(sources))]
        parts.append(
            MetricRows(
                symbols=batch.symbols,
                symbol_index=batch.symbol_index[rows],
                timeframe=np.full(len(rows), code, np.int32),
                time_ms=batch.open_time_ms[rows] - (minutes - 1) * MINUTE_MS,
                values=values,
            )
        )
    return concatenate_metric_rows(parts)


def concatenate_metric_rows(parts: Sequence[MetricRows]) -> MetricRows:
    """Return all rows in order; symbols are merged. Without parts, no rows."""
    if len(parts) == 1:
        return parts[0]
    position: dict[str, int] = {}
    indices = [np.empty(0, np.int32)]
    for part in parts:
        remap = np.array([position.setdefault(s, len(position)) for s in part.symbols], np.int32)
        indices.append(remap[part.symbol_index])
    empty = np.empty((0, len(VALUE_COLUMNS)))
    return MetricRows(
        symbols=tuple(position),
        symbol_index=np.concatenate(indices),
        timeframe=np.concatenate([np.empty(0, np.int32), *(part.timeframe for part in parts)]),
        time_ms=np.concatenate([np.empty(0, np.int64), *(part.time_ms for part in parts)]),
        values=np.concatenate([empty, *(part.values for part in parts)]),
    )
