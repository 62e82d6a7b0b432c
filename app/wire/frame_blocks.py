"""The bytes of a frame: a head, a JSON header, and one block of contiguous values per type.

Opening a frame of any size costs microseconds: each block is a view into the record. FRAMES.md describes the format
for other readers, with an example. It is version 2; the Arrow streams of version 1 are read by `arrow_frames.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from app.candles.batch import COLUMNS, DTYPES, IndexArray
from app.candles.validity import is_time
from app.errors import BadFrame

Kind = Literal["candles", "metrics"]

VERSION: Final = 2
MAGIC: Final = b"SCRFRAME"
_HEAD: Final = struct.Struct("<8sII")
"""Magic, version, length of the header in bytes."""
_ALIGNED_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of the columns of each block, in order. A frame of metrics has the matrix `values` as its float64."""

    int64: tuple[str, ...]
    float64: tuple[str, ...]
    flags: tuple[str, ...]


def _named(dtype: type[np.generic]) -> tuple[str, ...]:
    return tuple(name for name in COLUMNS if DTYPES[name] == dtype)


LAYOUTS: Final[Mapping[str, Layout]] = {
    "candles": Layout(_named(np.int64), _named(np.float64), _named(np.bool_)),
    "metrics": Layout(("open_time_ms", "event_ts_ms", "ingest_ts_ms"), (), ("closed",)),
}


@dataclass(frozen=True, slots=True)
class FrameContent:
    """The content of a frame.

    rows: name of a column of its layout -> (rows,). columns: the names of `values` (rows, len(columns)); both are
    None and empty in a frame of candles. stage_ts_ms: stage -> UTC ms.
    """

    kind: Kind
    exchange: str
    symbols: tuple[str, ...]
    symbol_index: IndexArray
    rows: Mapping[str, NDArray[Any]]
    columns: tuple[str, ...] = ()
    values: NDArray[np.float64] | None = None
    frame_id: str = ""
    stage_ts_ms: Mapping[str, int] = field(default_factory=dict)


def write_blocks(parts: FrameContent) -> bytes:
    layout = LAYOUTS[parts.kind]
    header: dict[str, object] = {
        "kind": parts.kind,
        "exchange": parts.exchange,
        "frame_id": parts.frame_id,
        "stage_ts_ms": parts.stage_ts_ms,
        "rows": len(parts.symbol_index),
        "symbols": parts.symbols,
    }
    floats = [_plain(parts.rows[name], "<f8") for name in layout.float64]
    if parts.values is not None:
        header |= {"width": len(parts.columns), "columns": _joined(parts.columns)}
        floats = [_plain(parts.values, "<f8")]
    text = orjson.dumps(header)
    # spaces are valid after JSON, and align the blocks
    text += b" " * (-len(text) % _ALIGNED_BYTES)
    blocks = [
        *(_plain(parts.rows[name], "<i8") for name in layout.int64),
        *floats,
        _plain(parts.symbol_index, "<i4"),
        *(_plain(parts.rows[name], "?") for name in layout.flags),
    ]
    return b"".join((_HEAD.pack(MAGIC, VERSION, len(text)), text, *blocks))


def _plain(values: NDArray[Any], dtype: str) -> memoryview:
    return np.ascontiguousarray(values, dtype).data


@lru_cache(maxsize=4)
def _joined(columns: tuple[str, ...]) -> str:
    return ",".join(columns)


@lru_cache(maxsize=4)
def _split(columns: str) -> tuple[str, ...]:
    """Return the same tuple for the same names: there is one for each version of the screener that runs."""
    return tuple(columns.split(","))


def read_blocks(data: bytes, kind: Kind) -> FrameContent:
    """Return views into `data`, all indices of which are in range. Raises BadFrame for anything that `write_blocks` of
    this version did not write."""
    header, start = _read_header(data, kind)
    layout = LAYOUTS[kind]
    try:
        rows, symbols, columns = _shape(header, kind)
        width = len(columns) if kind == "metrics" else len(layout.float64)
        blocks = _Blocks(data, start, rows, (len(layout.int64), width, len(layout.flags)))
        return FrameContent(
            kind=kind,
            exchange=_checked(header["exchange"], str),
            symbols=symbols,
            symbol_index=blocks.symbol_index(len(symbols)),
            rows=blocks.named(layout),
            columns=columns,
            values=blocks.float64.reshape(rows, width) if kind == "metrics" else None,
            frame_id=_checked(header["frame_id"], str),
            stage_ts_ms=_stage_times(header["stage_ts_ms"]),
        )
    except (KeyError, ValueError) as error:
        raise BadFrame("frame_schema", f"frame of {kind} with an unexpected header: {error}") from error


def _read_header(data: bytes, kind: Kind) -> tuple[Mapping[str, object], int]:
    """Return (header, where the blocks begin)."""
    if len(data) < _HEAD.size or not data.startswith(MAGIC):
        raise BadFrame("frame_unreadable", f"not a frame: {data[:16]!r}")
    _, version, length = _HEAD.unpack_from(data)
    if version != VERSION:
        raise BadFrame(
            "frame_version",
            f"frame version '{version}', this screener reads {VERSION}: update the older of the two",
        )
    start = _HEAD.size + length
    try:
        header = orjson.loads(memoryview(data)[_HEAD.size : start])
    except orjson.JSONDecodeError as error:
        raise BadFrame("frame_unreadable", f"frame with an unreadable header: {error}") from error
    found = header.get("kind") if isinstance(header, dict) else None
    if found != kind:
        raise BadFrame("frame_kind", f"expected a frame of {kind}, got {found!r}")
    return header, start


def _shape(header: Mapping[str, object], kind: Kind) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """Return (rows, symbols, columns)."""
    rows, symbols = _checked(header["rows"], int), tuple(_checked(header["symbols"], list))
    if rows < 0 or set(map(type, symbols)) - {str}:
        raise ValueError("rows or symbols of another form")
    if kind == "candles":
        return rows, symbols, ()
    columns = _split(_checked(header["columns"], str))
    if header["width"] != len(columns):
        raise ValueError(f"{len(columns)} names of {header['width']} columns")
    return rows, symbols, columns


def _stage_times(found: Any) -> dict[str, int]:
    times: dict[str, int] = _checked(found, dict)
    if set(map(type, times.values())) - {int}:
        raise ValueError(f"the times of stages are {times!r:.100}")
    return possible_times(times)


def possible_times(stage_ts_ms: Mapping[str, int]) -> dict[str, int]:
    """Return the times that are within the bounds of all times: they only measure, so a wrong one costs no row."""
    return {stage: ts_ms for stage, ts_ms in stage_ts_ms.items() if is_time(ts_ms)}


def _checked(value: Any, expected: type) -> Any:
    if type(value) is not expected:
        raise ValueError(f"{value!r:.100} is no {expected.__name__}")
    return value


class _Blocks:
    """Views of the blocks of a frame."""

    def __init__(self, data: bytes, start: int, rows: int, columns: tuple[int, int, int]) -> None:
        """columns: how many of int64, float64 and flags."""
        self._rows = rows
        ints, floats, flags = (count * rows for count in columns)
        at_floats = start + 8 * ints
        at_index = at_floats + 8 * floats
        at_flags = at_index + 4 * rows
        if at_flags + flags != len(data):
            raise BadFrame("frame_unreadable", f"{len(data)} bytes, its header says {at_flags + flags}")
        self.int64 = np.frombuffer(data, "<i8", ints, start)
        self.float64 = np.frombuffer(data, "<f8", floats, at_floats)
        self._index: IndexArray = np.frombuffer(data, "<i4", rows, at_index)
        self._flags = np.frombuffer(data, np.uint8, flags, at_flags)

    def symbol_index(self, symbols: int) -> IndexArray:
        """Return the symbol position of each row. Raises BadFrame for a position of no symbol."""
        if self._rows and not 0 <= self._index.min() <= self._index.max() < symbols:
            raise BadFrame("frame_unreadable", f"a row of none of the {symbols} symbols of its frame")
        return self._index

    def named(self, layout: Layout) -> dict[str, NDArray[Any]]:
        """Return the columns by name. Raises BadFrame for a flag that is neither true nor false."""
        if self._flags.max(initial=0) > 1:
            raise BadFrame("frame_unreadable", "a flag that is neither 0 nor 1")
        found: dict[str, NDArray[Any]] = {}
        flags = self._flags.view(np.bool_)
        for names, block in (
            (layout.int64, self.int64),
            (layout.float64, self.float64),
            (layout.flags, flags),
        ):
            if names:
                found.update(zip(names, block.reshape(len(names), self._rows), strict=True))
        return found
