"""Candles as JSON arrays of arrays, as ccxt and freqtrade write them, read row by row from a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

import orjson
import pyarrow as pa

from app.errors import BadInput

_CHUNK_BYTES: Final = 1 << 20
_ROW_BYTES_AT_MOST: Final = 64 << 10
_SPACE: Final = b" \t\r\n"


def json_tables(file: BinaryIO, names: Sequence[str], columns_at_least: int) -> Iterator[pa.Table]:
    """Yield the rows in tables of about a megabyte of text, with these columns, of which the first
    `columns_at_least` must be there. A row that is no array of that many scalars is a row of nulls.

    Raises BadInput if the file is no array of arrays, or ends within it.
    """
    yield _table([], names, columns_at_least)
    rest = _after_the_bracket(file)
    ended = False
    while not ended:
        chunk = file.read(_CHUNK_BYTES)
        rest += chunk
        last = rest.rfind(b"]") if chunk else len(rest.rstrip(_SPACE)) - 1
        if chunk and last >= 0:
            # the last bracket so far may close the whole array: it stays for the next round
            last = rest.rfind(b"]", 0, last)
        if not chunk:
            ended = True
            if rest[last : last + 1] != b"]":
                raise BadInput("file_unreadable", "it ends within a JSON array: the file is cut short")
            yield _table(_rows(rest[:last]), names, columns_at_least)
        elif last >= 0:
            yield _table(_rows(rest[: last + 1]), names, columns_at_least)
            rest = rest[last + 1 :].lstrip(_SPACE).removeprefix(b",")
        elif len(rest) > _CHUNK_BYTES + _ROW_BYTES_AT_MOST:
            raise BadInput("file_unreadable", "it is not a JSON array of arrays")


def _after_the_bracket(file: BinaryIO) -> bytes:
    text = b""
    while not text:
        chunk = file.read(_CHUNK_BYTES)
        text = chunk.removeprefix(b"\xef\xbb\xbf").lstrip(_SPACE)
        if not chunk:
            break
    if text[:1] != b"[" or text[1:].lstrip(_SPACE)[:1] not in (b"[", b"]", b""):
        raise BadInput(
            "file_unreadable", "it is not a JSON array of arrays [time, open, high, low, close, volume]"
        )
    return text[1:]


def _rows(text: bytes) -> list[Any]:
    """Parse the rows, separated by commas; None for each invalid one."""
    try:
        rows: list[Any] = _parsed(b"[" + text + b"]")
    except ValueError:
        pieces = [piece.lstrip(_SPACE + b",") for piece in text.split(b"]")]
        rows = [_row(piece + b"]") for piece in pieces if piece]
    return rows


def _row(text: bytes) -> Any:
    try:
        return _parsed(text)
    except ValueError:
        return None


def _parsed(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        # Python writes NaN and Infinity, which are not JSON
        return json.loads(text)


def _table(rows: list[Any], names: Sequence[str], columns_at_least: int) -> pa.Table:
    width = min(
        max((len(row) for row in rows if isinstance(row, list)), default=columns_at_least), len(names)
    )
    width = max(width, columns_at_least)
    whole = [_padded(row, width, columns_at_least) for row in rows]
    return pa.table({name: _column([row[at] for row in whole]) for at, name in enumerate(names[:width])})


def _padded(row: Any, width: int, columns_at_least: int) -> list[Any]:
    if not isinstance(row, list) or len(row) < columns_at_least:
        return [None] * width
    return row[:width] + [None] * (width - len(row))


def _column(values: list[Any]) -> pa.Array:
    try:
        if all(type(value) in (int, float, type(None)) for value in values):
            return pa.array(values)
    except (pa.ArrowException, OverflowError):
        pass
    return pa.array([None if value is None else str(value) for value in values], pa.string())
