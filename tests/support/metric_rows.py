"""Metrics batches from a few named values; everything else is null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from app.market.fields import METRIC_COLUMNS
from app.market.metrics import MetricsBatch

MINUTE_MS = 60_000
START_MS = 1_618_617_600_000
"""2021-04-17 00:00 UTC."""


@dataclass(frozen=True)
class Row:
    """`minute` counts from START_MS; the event time is the end of the minute unless given."""

    symbol: str
    minute: int
    values: Mapping[str, float] = field(default_factory=dict)
    closed: bool = True
    event_ts_ms: int | None = None

    @property
    def open_time_ms(self) -> int:
        return START_MS + self.minute * MINUTE_MS

    @property
    def event_ms(self) -> int:
        return self.open_time_ms + MINUTE_MS if self.event_ts_ms is None else self.event_ts_ms


def metrics_batch(rows: Sequence[Row], columns: tuple[str, ...] = METRIC_COLUMNS) -> MetricsBatch:
    symbols = tuple(dict.fromkeys(row.symbol for row in rows))
    values = np.full((len(rows), len(columns)), np.nan)
    for at, row in enumerate(rows):
        for name, value in row.values.items():
            values[at, columns.index(name)] = value
    return MetricsBatch(
        symbols=symbols,
        symbol_index=np.array([symbols.index(row.symbol) for row in rows], np.int32),
        open_time_ms=np.array([row.open_time_ms for row in rows], np.int64),
        closed=np.array([row.closed for row in rows], np.bool_),
        event_ts_ms=np.array([row.event_ms for row in rows], np.int64),
        ingest_ts_ms=np.array([row.event_ms + 7 for row in rows], np.int64),
        values=values,
        columns=columns,
    )
