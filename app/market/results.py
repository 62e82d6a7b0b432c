"""Collecting the evaluated rows of one update into a metrics batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, BoolArray, CandleBatch, FloatArray, IntArray
from app.market.blocks import Block, Candles
from app.market.intake import Taken
from app.market.layout import COUNT
from app.market.metrics import MetricsBatch
from app.market.symbols import SymbolColumns


class Results:
    """Pieces of (columns, rows) values, put into one array and into order at the end."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._names = columns
        self._values: list[FloatArray] = []
        self._columns: list[NDArray[np.intp]] = []
        self._minutes: list[IntArray] = []
        self._causes: list[NDArray[np.intp]] = []
        self._closed: list[BoolArray] = []
        self._in_order = True

    def add_taken(self, taken: Taken, values: FloatArray) -> None:
        """The rows of the candles just taken in."""
        given = taken.rows >= 0
        self._add(taken.block, taken.positions, None if given.all() else given, values, taken.rows)

    def add_revised(
        self, block: Block, positions: NDArray[np.intp], since: IntArray, values: FloatArray, causes: Candles
    ) -> None:
        """The known minutes of a block from `since` (W,) on; the last of a symbol's `causes` caused them."""
        cause = np.zeros(int(positions.max()) + 1, dtype=np.intp)
        inside = causes.columns < len(cause)
        np.maximum.at(cause, causes.columns[inside], causes.rows[inside])
        minutes = np.arange(block.first, block.last + 1)[:, np.newaxis]
        chosen = (block.sums[COUNT] == 1.0) & (minutes >= since)
        self._in_order = False
        self._add(block, positions, chosen, values, np.broadcast_to(cause[positions], chosen.shape))

    def add_forming(self, candles: Candles, values: FloatArray) -> None:
        self._values.append(values)
        self._columns.append(candles.columns)
        self._minutes.append(candles.minutes)
        self._causes.append(candles.rows)
        self._closed.append(np.zeros(len(candles), dtype=np.bool_))
        self._in_order = len(self._values) == 1

    def _add(
        self,
        block: Block,
        positions: NDArray[np.intp],
        chosen: BoolArray | None,
        values: FloatArray,
        causes: NDArray[np.intp],
    ) -> None:
        minutes = np.repeat(np.arange(block.first, block.last + 1), block.width)
        columns = np.tile(positions, block.length)
        causes = causes.ravel()
        if chosen is not None:
            cells = np.flatnonzero(chosen)
            values, minutes, columns, causes = values[:, cells], minutes[cells], columns[cells], causes[cells]
        if self._minutes and len(minutes) and len(self._minutes[-1]):
            self._in_order &= bool(self._minutes[-1][-1] < minutes[0])
        self._values.append(values)
        self._columns.append(columns)
        self._minutes.append(minutes)
        self._causes.append(causes)
        self._closed.append(np.ones(len(minutes), dtype=np.bool_))

    def batch(self, batch: CandleBatch, symbols: SymbolColumns) -> MetricsBatch:
        """All rows as metrics of the candle batch that led to them."""
        if not self._values:
            none = np.empty(0, dtype=np.int64)
            return _metrics(batch, self._names, np.empty((0, len(self._names))), none, none, none > 0)
        columns = np.concatenate(self._columns)
        minutes = np.concatenate(self._minutes)
        causes = np.concatenate(self._causes)
        closed = np.concatenate(self._closed)
        values = np.empty((len(minutes), len(self._names)))
        if self._in_order or len(minutes) == 0:
            places = np.arange(len(minutes))
        else:
            order = np.lexsort((closed, columns, minutes))
            places = np.empty(len(order), dtype=np.intp)
            places[order] = np.arange(len(order))
            minutes, causes, closed = minutes[order], causes[order], closed[order]
        start = 0
        for piece in self._values:
            stop = start + piece.shape[1]
            if self._in_order:
                values[start:stop] = piece.T
            else:
                values[places[start:stop]] = piece.T
            start = stop
        return _metrics(batch, self._names, values, minutes, causes, closed)


def _metrics(
    batch: CandleBatch,
    names: tuple[str, ...],
    values: FloatArray,
    minutes: IntArray,
    causes: NDArray[np.intp],
    closed: BoolArray,
) -> MetricsBatch:
    return MetricsBatch(
        symbols=batch.symbols,
        symbol_index=batch.symbol_index[causes].astype(np.int32, copy=False),
        open_time_ms=minutes * MINUTE_MS,
        closed=closed.astype(np.bool_, copy=False),
        event_ts_ms=batch.event_ts_ms[causes],
        ingest_ts_ms=batch.ingest_ts_ms[causes],
        values=values,
        columns=names,
        exchange=batch.exchange,
    )
