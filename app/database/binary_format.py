"""PostgreSQL's binary formats, written and read as whole NumPy arrays instead of row by row.

COPY (PostgreSQL manual, COPY, "Binary Format"): a signature and header; for each row a 16-bit field
count, then each field as a 32-bit length and its bytes, big-endian; -1 in place of a length is null; at the
end the field count -1. A row is laid out at its greatest width as one structured array; the bytes that a null
or a shorter text does not have are then masked out of the whole block at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import FloatArray, IndexArray, IntArray

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"

_POSTGRES_EPOCH_MS = 946_684_800_000  # timestamps count microseconds from 2000-01-01
_ARRAY_HEADER_BYTES = 20  # dimensions, null flag, element type, and length and lower bound of the dimension


@dataclass(frozen=True, slots=True, eq=False)
class TextColumn:
    """Text with few distinct values. index: shape (rows,), the position of each row's value in `values`."""

    values: Sequence[str]
    index: IndexArray


@dataclass(frozen=True, slots=True, eq=False)
class TimeColumn:
    """timestamptz from UTC milliseconds, shape (rows,)."""

    time_ms: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class IntColumn:
    """bigint, shape (rows,)."""

    values: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class FloatColumns:
    """Neighbouring double precision columns, shape (rows, columns); NaN becomes null."""

    values: FloatArray


Column = TextColumn | TimeColumn | IntColumn | FloatColumns


def copy_stream(columns: Sequence[Column]) -> bytes:
    """Return the whole stream for COPY FROM STDIN (FORMAT binary) of the columns, in their order.

    All columns have the same number of rows; texts are UTF-8 without NUL.
    """
    rows = _rows_of(columns[0])
    parts = [_part(column) for column in columns]
    layout = np.dtype([("fields", ">i2"), *((f"c{i}", part.layout) for i, part in enumerate(parts))])
    kept_layout = np.dtype(
        [("fields", "?", 2), *((f"c{i}", part.kept_layout) for i, part in enumerate(parts))]
    )

    block = np.empty(rows, layout)
    block["fields"] = sum(part.fields for part in parts)
    kept = np.ones((rows, layout.itemsize), np.bool_)
    kept_fields = kept.view(kept_layout)[:, 0]
    for i, part in enumerate(parts):
        part.fill(block[f"c{i}"], kept_fields[f"c{i}"])
    content = block.view(np.uint8).reshape(rows, layout.itemsize)
    return HEADER + (content[kept] if not kept.all() else content).tobytes() + TRAILER


def array_values(array: bytes, kind: str) -> NDArray[np.void]:
    """Return the elements of a one-dimensional array without nulls in PostgreSQL's binary form (`array_send`).

    kind: NumPy type of the elements, big-endian (">i8" or ">f8"). Timestamps are not converted, see `to_ms`.
    """
    elements = np.frombuffer(
        array, np.dtype([("length", ">i4"), ("value", kind)]), offset=_ARRAY_HEADER_BYTES
    )
    return elements["value"]


def to_ms(timestamps: NDArray[np.int64]) -> IntArray:
    """Convert PostgreSQL's binary timestamps to UTC milliseconds."""
    since_ms: IntArray = timestamps.astype(np.int64) // 1000
    return since_ms + _POSTGRES_EPOCH_MS


def _rows_of(column: Column) -> int:
    match column:
        case TextColumn():
            return len(column.index)
        case TimeColumn():
            return len(column.time_ms)
        case IntColumn() | FloatColumns():
            return len(column.values)


class _FixedPart:
    """One column of eight bytes that is never null."""

    fields = 1
    layout = np.dtype([("length", ">i4"), ("value", ">i8")])
    kept_layout = np.dtype((np.bool_, 12))

    def __init__(self, values: IntArray) -> None:
        self._values = values

    def fill(self, block: NDArray[np.void], _kept: NDArray[np.bool_]) -> None:
        block["length"] = 8
        block["value"] = self._values


class _TextPart:
    fields = 1

    def __init__(self, column: TextColumn) -> None:
        encoded = [value.encode() for value in column.values] or [b""]
        lengths = np.array([len(value) for value in encoded], np.int32)
        width = max(int(lengths.max()), 1)
        self._texts = np.array(encoded, f"S{width}")
        self._texts_kept = np.arange(width) < lengths[:, None]
        self._lengths = lengths
        self._index = column.index
        self.layout = np.dtype([("length", ">i4"), ("value", f"S{width}")])
        self.kept_layout = np.dtype([("length", "?", 4), ("value", "?", (width,))])

    def fill(self, block: NDArray[np.void], kept: NDArray[np.void]) -> None:
        block["length"] = self._lengths[self._index]
        block["value"] = self._texts[self._index]
        kept["value"][...] = self._texts_kept[self._index]


class _FloatPart:
    def __init__(self, column: FloatColumns) -> None:
        self._values = column.values
        self.fields = column.values.shape[1]
        one = np.dtype([("length", ">i4"), ("value", ">f8")])
        one_kept = np.dtype([("length", "?", 4), ("value", "?", 8)])
        self.layout = np.dtype((one, (self.fields,)))
        self.kept_layout = np.dtype((one_kept, (self.fields,)))

    def fill(self, block: NDArray[np.void], kept: NDArray[np.void]) -> None:
        block["value"] = self._values
        null = np.isnan(self._values)
        if null.any():
            block["length"] = np.where(null, -1, 8)
            kept["value"][...] = ~null[:, :, None]
        else:
            block["length"] = 8


def _part(column: Column) -> _FixedPart | _TextPart | _FloatPart:
    match column:
        case TextColumn():
            return _TextPart(column)
        case TimeColumn():
            return _FixedPart((column.time_ms - _POSTGRES_EPOCH_MS) * 1000)
        case IntColumn():
            return _FixedPart(column.values)
        case FloatColumns():
            return _FloatPart(column)


def last_of_each(*keys: IntArray | IndexArray) -> NDArray[np.intp]:
    """Return positions of the last row of each distinct key, sorted by key: the first array is the major one.

    np.lexsort is stable: of equal rows the last in the batch is the last in the sorted order.
    """
    rows = len(keys[0])
    order: NDArray[np.intp] = np.lexsort(tuple(reversed(keys)))
    if rows == 0:
        return order
    differs = np.zeros(rows - 1, np.bool_)
    for key in keys:
        in_order = key[order]
        differs |= in_order[1:] != in_order[:-1]
    last: NDArray[np.intp] = order[np.append(differs, True)]
    return last
