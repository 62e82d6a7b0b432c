"""The latest metrics of every symbol, as one matrix that follows the topic of metrics."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import BoolArray, IntArray
from app.candles.departures import Departures
from app.market.fields import METRIC_COLUMNS
from app.market.metrics import MetricsBatch

_FIRST_CAPACITY = 256


@dataclass(frozen=True, slots=True)
class Seen:
    """A symbol, and the event time of its last update."""

    symbol: str
    exchange: str
    event_ts_ms: int


@dataclass(frozen=True, slots=True)
class LatestRow:
    """`values` in the order of METRIC_COLUMNS, NaN for null."""

    symbol: str
    exchange: str
    open_time_ms: int
    event_ts_ms: int
    closed: bool
    values: list[float]

    def as_batch(self) -> MetricsBatch:
        return MetricsBatch(
            symbols=(self.symbol,),
            symbol_index=np.zeros(1, np.int32),
            open_time_ms=np.array([self.open_time_ms]),
            closed=np.array([self.closed]),
            event_ts_ms=np.array([self.event_ts_ms]),
            ingest_ts_ms=np.array([self.event_ts_ms]),
            values=np.array([self.values]),
            columns=METRIC_COLUMNS,
            exchange=self.exchange,
        )


class LatestMetrics:
    """One row per symbol: the row of its newest minute that arrived last."""

    def __init__(self) -> None:
        self._row_of: dict[str, int] = {}
        self._exchange_of: list[str] = []
        self._values = np.full((_FIRST_CAPACITY, len(METRIC_COLUMNS)), np.nan)
        self._open_time_ms = np.full(_FIRST_CAPACITY, -1, dtype=np.int64)
        self._event_ts_ms = np.zeros(_FIRST_CAPACITY, dtype=np.int64)
        self._closed = np.zeros(_FIRST_CAPACITY, dtype=np.bool_)
        self._version = np.zeros(_FIRST_CAPACITY, dtype=np.int64)
        self._column_maps: dict[tuple[str, ...], tuple[IntArray, IntArray]] = {}
        self._changes = 0
        self._departures = Departures()
        self.newest_event_ts_ms = 0

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._row_of

    def symbols(self) -> list[str]:
        return sorted(self._row_of)

    def take(self, batch: MetricsBatch) -> None:
        """Store the newest row of each symbol in `batch`, unless a newer minute is known already."""
        if not len(batch):
            return
        self._drop(self._departures.note(batch.symbols, int(batch.open_time_ms.max())))
        chosen = _newest_rows(batch)
        rows = self._rows_for(batch, chosen)
        newer = batch.open_time_ms[chosen] >= self._open_time_ms[rows]
        chosen, rows = chosen[newer], rows[newer]
        self._open_time_ms[rows] = batch.open_time_ms[chosen]
        self._event_ts_ms[rows] = batch.event_ts_ms[chosen]
        self._closed[rows] = batch.closed[chosen]
        # no symbol ever has a version twice, even if it comes back
        self._changes += 1
        self._version[rows] = self._changes
        if batch.columns == METRIC_COLUMNS:
            self._values[rows] = batch.values[chosen]
        else:
            here, there = self._column_map(batch.columns)
            self._values[rows] = np.nan
            self._values[np.ix_(rows, here)] = batch.values[np.ix_(chosen, there)]
        self.newest_event_ts_ms = max(self.newest_event_ts_ms, int(batch.event_ts_ms.max()))

    def row(self, symbol: str) -> LatestRow | None:
        """Return the row of a symbol; None for an unknown symbol."""
        row = self._row_of.get(symbol)
        if row is None:
            return None
        return LatestRow(
            symbol=symbol,
            exchange=self._exchange_of[row],
            open_time_ms=int(self._open_time_ms[row]),
            event_ts_ms=int(self._event_ts_ms[row]),
            closed=bool(self._closed[row]),
            values=self._values[row].tolist(),
        )

    def seen(self) -> list[Seen]:
        """Return all symbols by name."""
        times = self._event_ts_ms[: len(self._row_of)].tolist()
        return [
            Seen(symbol, self._exchange_of[row], times[row]) for symbol, row in sorted(self._row_of.items())
        ]

    def market(self, current_ms: int) -> MetricsBatch:
        """Return one row for each symbol whose minute is at most `current_ms` older than the newest. Use it at once:
        its arrays change with the next update."""
        known = len(self._row_of)
        open_time_ms = self._open_time_ms[:known]
        batch = MetricsBatch(
            symbols=tuple(self._row_of),
            symbol_index=np.arange(known, dtype=np.int32),
            open_time_ms=open_time_ms,
            closed=self._closed[:known],
            event_ts_ms=self._event_ts_ms[:known],
            ingest_ts_ms=self._event_ts_ms[:known],
            values=self._values[:known],
            columns=METRIC_COLUMNS,
        )
        current = open_time_ms >= open_time_ms.max(initial=-1) - current_ms
        return batch if current.all() else batch.take(current)

    def version(self, symbol: str) -> int:
        """Return a number that grows whenever the symbol's row changes. The symbol must be known."""
        return int(self._version[self._row_of[symbol]])

    def versions(self, symbols: Sequence[str]) -> bytes:
        """Return bytes that change whenever the row of one of these known symbols does, or symbols are added."""
        rows = [self._row_of[symbol] for symbol in symbols]
        return np.array(rows).tobytes() + self._version[rows].tobytes()

    def _rows_for(self, batch: MetricsBatch, chosen: IntArray) -> IntArray:
        rows = np.empty(len(chosen), dtype=np.int64)
        for i, index in enumerate(batch.symbol_index[chosen].tolist()):
            symbol = batch.symbols[index]
            row = self._row_of.get(symbol)
            if row is None:
                row = self._row_of[symbol] = len(self._row_of)
                self._exchange_of.append(batch.exchange)
            rows[i] = row
        while len(self._row_of) > len(self._values):
            self._grow()
        return rows

    def _drop(self, symbols: Collection[str]) -> None:
        gone = {self._row_of.pop(symbol) for symbol in symbols if symbol in self._row_of}
        if not gone:
            return
        kept = [row for row in range(len(self._exchange_of)) if row not in gone]
        names = sorted(self._row_of, key=self._row_of.__getitem__)
        self._row_of = {symbol: row for row, symbol in enumerate(names)}
        self._exchange_of = [self._exchange_of[row] for row in kept]
        columns: tuple[tuple[NDArray[Any], float], ...] = (
            (self._values, np.nan),
            (self._open_time_ms, -1),
            (self._event_ts_ms, 0),
            (self._closed, False),
            (self._version, 0),
        )
        for array, empty in columns:
            array[: len(kept)] = array[kept]
            array[len(kept) :] = empty

    def _grow(self) -> None:
        more = len(self._values)
        self._values = np.vstack((self._values, np.full((more, len(METRIC_COLUMNS)), np.nan)))
        self._open_time_ms = np.append(self._open_time_ms, np.full(more, -1, dtype=np.int64))
        self._event_ts_ms = np.append(self._event_ts_ms, np.zeros(more, dtype=np.int64))
        self._closed = np.append(self._closed, np.zeros(more, dtype=np.bool_))
        self._version = np.append(self._version, np.zeros(more, dtype=np.int64))

    def _column_map(self, columns: tuple[str, ...]) -> tuple[IntArray, IntArray]:
        """Return the positions, here and in `columns`, of the names that both have: another version's frames differ."""
        if columns not in self._column_maps:
            position = {name: i for i, name in enumerate(columns)}
            shared = [(i, position[name]) for i, name in enumerate(METRIC_COLUMNS) if name in position]
            pairs = np.array(shared, dtype=np.int64).reshape(-1, 2)
            self._column_maps = {columns: (pairs[:, 0], pairs[:, 1])}
        return self._column_maps[columns]


def _newest_rows(batch: MetricsBatch) -> IntArray:
    """Return for each symbol of the batch the position of the last row of its newest minute."""
    order = np.lexsort((np.arange(len(batch)), batch.open_time_ms, batch.symbol_index))
    symbol = batch.symbol_index[order]
    last: BoolArray = np.append(symbol[1:] != symbol[:-1], True)
    return order[last].astype(np.int64)
