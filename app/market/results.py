"""Rows of one update as a metrics batch."""

from __future__ import annotations

from typing import Final

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch, FloatArray, IntArray
from app.market.metrics import MetricsBatch
from app.market.rings.arrivals import FORMING
from app.market.rings.records import Records

_SHORT_SPAN: Final = 1 << 16
"""Minutes, from the first to the last, that can be sorted by radix."""


def order_of(steps: Records, in_order: bool) -> IntArray:
    """Return (steps,), the step of each row: by minute, then symbol, then forming before closed."""
    if in_order:
        return np.arange(len(steps))
    minutes = steps["minute"] - steps["minute"].min()
    if minutes.max() < _SHORT_SPAN:
        minutes = minutes.astype(np.uint16)
    # within a minute they stand in that order already
    return np.argsort(minutes, kind="stable")


def places_of(order: IntArray) -> IntArray:
    """Return (steps,), the row of each step."""
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


def metrics_of(
    batch: CandleBatch, names: tuple[str, ...], rows: Records, causes: IntArray, values: FloatArray
) -> MetricsBatch:
    """Return the metrics of a candle batch. rows: the steps, in the order of the rows. causes: (rows,), the row of
    the batch that led to each one."""
    return MetricsBatch(
        symbols=batch.symbols,
        symbol_index=batch.symbol_index[causes].astype(np.int32, copy=False),
        open_time_ms=rows["minute"] * MINUTE_MS,
        closed=rows["kind"] != FORMING,
        event_ts_ms=batch.event_ts_ms[causes],
        ingest_ts_ms=batch.ingest_ts_ms[causes],
        values=values,
        columns=names,
        exchange=batch.exchange,
    )
