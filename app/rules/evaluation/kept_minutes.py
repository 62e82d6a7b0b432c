"""Closed minutes, kept so that the memory of the rules' functions over time can be rebuilt exactly.

A packed minute holds, for each symbol evaluated in it, the metrics that these functions read, and the values of the
indicators of bars inside them: bars reach back further than the kept minutes. The states of these indicators are
saved now and then, and moved on by the minutes since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from app.errors import BadFrame
from app.market.metrics import MetricsBatch
from app.market.rings.packing import decode, encode
from app.rules.language.canonical_text import to_text
from app.rules.language.tree import ConditionNode, Indicator, Lately, OverTime
from app.rules.language.walks import columns_of, walk

_VERSION: Final = 1
_ROWS_TOGETHER: Final = 20_000


def kept_names(conditions: Iterable[ConditionNode]) -> tuple[str, ...]:
    """Return the metrics, and the texts of the indicators, that a minute must keep for these conditions."""
    names: dict[str, None] = {}
    for condition in conditions:
        for node in walk(condition):
            if isinstance(node, OverTime | Lately | Indicator):
                names |= dict.fromkeys(columns_of(node))
            if isinstance(node, OverTime | Lately):
                inner = (found for found in walk(node) if isinstance(found, Indicator))
                names |= dict.fromkeys(to_text(found) for found in inner)
    return tuple(names)


def minutes_of(batch: MetricsBatch) -> Iterator[MetricsBatch]:
    """Yield the closed rows of each minute of a batch, the last of each symbol."""
    closed = np.flatnonzero(batch.closed)
    for open_time_ms in np.unique(batch.open_time_ms[closed]).tolist():
        rows = closed[batch.open_time_ms[closed] == open_time_ms]
        _, last = np.unique(batch.symbol_index[rows][::-1], return_index=True)
        yield batch.take(np.sort(rows[len(rows) - 1 - last]))


def pack(minute: MetricsBatch) -> bytes:
    """Pack the rows of one closed minute, with all columns of the batch."""
    symbols = [minute.symbol_of(row) for row in range(len(minute))]
    header = {
        "open_time_ms": int(minute.open_time_ms[0]),
        "symbols": symbols,
        "columns": minute.columns,
    }
    return encode("rule minute", _VERSION, header, {"values": minute.values})


def unpack(packed: bytes) -> MetricsBatch:
    """Return what `pack` packed. Raises BadFrame for other bytes."""
    header, arrays = decode(packed, "rule minute", _VERSION)
    try:
        return _batch(
            tuple(map(str, header["symbols"])),
            np.full(len(header["symbols"]), int(header["open_time_ms"]), np.int64),
            arrays["values"].astype(np.float64, copy=False),
            tuple(map(str, header["columns"])),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadFrame("frame_unreadable", f"unreadable packed rule minute: {error!r}") from error


def _batch(
    symbols: tuple[str, ...], open_time_ms: np.ndarray, values: np.ndarray, columns: tuple[str, ...]
) -> MetricsBatch:
    rows = len(open_time_ms)
    if values.shape != (rows, len(columns)):
        raise ValueError(f"values of shape {values.shape} for {rows} rows of {len(columns)} columns")
    return MetricsBatch(
        symbols=symbols,
        symbol_index=(np.arange(rows) % max(1, len(symbols))).astype(np.int32),
        open_time_ms=open_time_ms,
        closed=np.ones(rows, np.bool_),
        event_ts_ms=open_time_ms,
        ingest_ts_ms=open_time_ms,
        values=values,
        columns=columns,
    )


def merged(before: MetricsBatch, minute: MetricsBatch) -> MetricsBatch:
    """Return the rows of a kept minute, replaced by the newer rows for the symbols that have them."""
    if before.columns != minute.columns:
        position = {name: at for at, name in enumerate(before.columns)}
        moved = np.full((len(before), len(minute.columns)), np.nan)
        for at, name in enumerate(minute.columns):
            if name in position:
                moved[:, at] = before.values[:, position[name]]
    else:
        moved = before.values
    newer = {minute.symbol_of(row): row for row in range(len(minute))}
    older = [row for row in range(len(before)) if before.symbol_of(row) not in newer]
    symbols = (*(before.symbol_of(row) for row in older), *newer)
    values = np.concatenate((moved[older], minute.values[list(newer.values())]))
    return _batch(symbols, np.full(len(symbols), minute.open_time_ms[0]), values, minute.columns)


def together(minutes: Iterable[MetricsBatch]) -> Iterator[MetricsBatch]:
    """Join consecutive minutes with equal symbols and columns into batches large enough to be worth their cost."""
    held: list[MetricsBatch] = []
    for minute in minutes:
        if held and (
            (held[0].symbols, held[0].columns) != (minute.symbols, minute.columns)
            or sum(map(len, held)) > _ROWS_TOGETHER
        ):
            yield _joined(held)
            held = []
        held.append(minute)
    if held:
        yield _joined(held)


def _joined(minutes: list[MetricsBatch]) -> MetricsBatch:
    first = minutes[0]
    return _batch(
        first.symbols,
        np.concatenate([minute.open_time_ms for minute in minutes]),
        np.concatenate([minute.values for minute in minutes]),
        first.columns,
    )
