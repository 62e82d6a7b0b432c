"""The COPY stream, against an independent encoder that writes it field by field."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from app.database.binary_format import (
    FloatColumns,
    IntColumn,
    TextColumn,
    TimeColumn,
    array_values,
    copy_stream,
    last_of_each,
    to_ms,
)


def field(value: object) -> bytes:
    match value:
        case None:
            return struct.pack(">i", -1)
        case float():
            return struct.pack(">id", 8, value)
        case int():
            return struct.pack(">iq", 8, value)
        case datetime():
            since = value - datetime(2000, 1, 1, tzinfo=UTC)
            return struct.pack(">iq", 8, round(since.total_seconds() * 1e6))
        case str():
            return struct.pack(">i", len(value.encode())) + value.encode()
    raise TypeError(value)


def stream(rows: Sequence[Sequence[object]]) -> bytes:
    body = b"".join(struct.pack(">h", len(row)) + b"".join(map(field, row)) for row in rows)
    return b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0) + body + struct.pack(">h", -1)


def test_texts_of_different_lengths_times_counts_and_nulls_make_the_stream_postgresql_documents() -> None:
    columns = [
        TextColumn(["A", "LONGUSDT", "日本"], np.array([1, 0, 2], np.int32)),
        TimeColumn(np.array([0, 1_700_000_000_123, 946_684_800_000])),
        FloatColumns(np.array([[1.5, np.nan], [np.nan, np.nan], [-0.0, 1e-308]])),
        IntColumn(np.array([0, -1, 2**62])),
    ]
    assert copy_stream(columns) == stream(
        [
            ["LONGUSDT", datetime(1970, 1, 1, tzinfo=UTC), 1.5, None, 0],
            ["A", datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC), None, None, -1],
            ["日本", datetime(2000, 1, 1, tzinfo=UTC), -0.0, 1e-308, 2**62],
        ]
    )


def test_rows_without_nulls_and_with_texts_of_one_length_need_no_mask() -> None:
    columns = [TextColumn(["AB", "CD"], np.array([1, 0], np.int32)), FloatColumns(np.array([[1.0], [2.0]]))]
    assert copy_stream(columns) == stream([["CD", 1.0], ["AB", 2.0]])


def test_no_rows_make_an_empty_stream() -> None:
    columns = [TextColumn([], np.empty(0, np.int32)), FloatColumns(np.empty((0, 3)))]
    assert copy_stream(columns) == stream([])


def test_the_last_row_of_each_key_is_kept_in_order_of_the_keys() -> None:
    symbol = np.array([1, 0, 1, 0, 1], np.int32)
    minute = np.array([5, 6, 4, 6, 5])
    assert last_of_each(symbol, minute).tolist() == [3, 2, 4]
    assert last_of_each(np.empty(0, np.int32)).tolist() == []


def test_a_binary_array_gives_its_elements() -> None:
    header = struct.pack(">iiIii", 1, 0, 1184, 3, 1)
    elements = b"".join(struct.pack(">iq", 8, value) for value in (0, 1_000_000, -1_000_000))
    times = to_ms(array_values(header + elements, ">i8"))
    assert times.tolist() == [946_684_800_000, 946_684_801_000, 946_684_799_000]
