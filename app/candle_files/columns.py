"""Columns of a candle file as arrays, of any type; an unreadable value costs its row, not the file."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.candles.batch import BoolArray, FloatArray, IntArray
from app.candles.open_times import NO_TIME, Times, times_of

_NANOSECONDS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_WHOLE: Final = re.compile(r"\d{10,19}(\.0*)?", re.ASCII)
_COUNT_AT_MOST: Final = 2**53


def texts(column: pa.ChunkedArray) -> tuple[tuple[str, ...], IntArray]:
    """Return the distinct texts, and for each row the position of its text, -1 for null."""
    found = pc.dictionary_encode(column.cast(pa.string()).combine_chunks())
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    index = pc.fill_null(found.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    return tuple(found.dictionary.to_pylist()), index


def _parsed(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    """Return the texts as numbers, null for empty ones; None if Arrow cannot read one of them."""
    try:
        found = column.cast(pa.string())
        return pc.if_else(pc.equal(found, ""), pa.scalar(None, pa.string()), found).cast(kind)
    except pa.ArrowInvalid:
        return None


def open_times(column: pa.ChunkedArray) -> Times:
    """Return the UTC ms of epoch numbers in any unit, of Arrow's timestamps and dates, and of ISO 8601 texts (UTC
    without an offset). Raises ValueError for a column of another kind."""
    kind = column.type
    if pa.types.is_date(kind):
        column, kind = column.cast(pa.timestamp("ms")), pa.timestamp("ms")
    if pa.types.is_timestamp(kind):
        return _of_timestamps(column, kind)
    if _is_text(kind):
        return _of_texts(column)
    if pa.types.is_integer(kind):
        return times_of(pc.fill_null(column.cast(pa.int64()), 0).to_numpy())
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return times_of(_as_floats(column))
    if pa.types.is_null(kind):
        return times_of(np.zeros(len(column), np.int64))
    raise ValueError(f"open_time_ms is of type {kind}, which is not a time")


def _of_timestamps(column: pa.ChunkedArray, kind: Any) -> Times:
    numbers = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
    per_ms = _NANOSECONDS["ms"] // _NANOSECONDS[kind.unit] if kind.unit != "s" else 0
    found = times_of(numbers // per_ms if per_ms else numbers)
    return Times(found.open_ms, {})


def _of_texts(column: pa.ChunkedArray) -> Times:
    whole = _parsed(column, pa.int64())
    if whole is not None:
        return times_of(pc.fill_null(whole, 0).to_numpy())
    distinct, index = texts(column)
    if {text.lower() for text in distinct} <= {"true", "false"}:
        raise ValueError("open_time_ms is of type bool, which is not a time")
    numbers = np.array([*(_of_text(text) for text in distinct), 0], np.int64)[index]
    return times_of(numbers)


def _of_text(text: str) -> int:
    """Return an epoch number in some unit, NO_TIME if the text is no time."""
    text = text.strip()
    if _WHOLE.fullmatch(text):
        return int(text.partition(".")[0])
    try:
        moment = datetime.fromisoformat(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return NO_TIME
    return int(seconds * 1000) if seconds > 0 else NO_TIME


def numbers(table: pa.Table, name: str) -> tuple[FloatArray, BoolArray]:
    """Return the column as float64, NaN for null or a missing column, and which rows hold text that is no number."""
    rows = table.num_rows
    unread = np.zeros(rows, np.bool_)
    if name not in table.column_names or pa.types.is_null(table.column(name).type):
        return np.full(rows, np.nan), unread
    column = table.column(name)
    if not _is_text(column.type):
        return _as_floats(column), unread
    parsed = _parsed(column, pa.float64())
    if parsed is not None:
        return _as_floats(parsed), unread
    distinct, index = texts(column)
    read = [_number(text) for text in distinct]
    values = np.array([*(np.nan if value is None else value for value in read), np.nan])
    return values[index], np.array([*(value is None for value in read), False])[index]


def counts(table: pa.Table, name: str) -> tuple[IntArray, BoolArray]:
    """Return whole numbers, 0 for null or a missing column, and which rows hold something else."""
    values, unread = numbers(table, name)
    values = np.where(np.isnan(values), 0.0, values)
    fits = np.isfinite(values) & (np.abs(values) <= _COUNT_AT_MOST)
    values = np.where(fits, values, 0.0)
    return values.astype(np.int64), unread | ~fits | (values % 1 != 0)


def _number(text: str) -> float | None:
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None if text.strip() else np.nan


def _as_floats(column: pa.ChunkedArray) -> FloatArray:
    return np.array(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
