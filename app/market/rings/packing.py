"""Bytes that describe themselves: a header in JSON, then arrays, little-endian, one after the other.

    magic (4 bytes) | header length (uint32) | header | arrays
The header has `kind`, `version`, `arrays` (name, dtype, shape, in order) and what the kind needs besides.
Packed minutes live in Kafka tables, and snapshots beside them, so that a newer screener must be able to tell
which version it reads.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, CandleBatch
from app.candles.validity import check_rows
from app.errors import BadFrame

_MAGIC: Final = b"SCRM"
_PREFIX: Final = struct.Struct("<4sI")
_DTYPE: Final = re.compile("[<|][biufSU][1-9][0-9]{0,3}")
MINUTE_FIELDS: Final = ("open", "high", "low", "close", "volume", "quote_volume", "trades")

Arrays = Mapping[str, NDArray[Any]]


def encode(kind: str, version: int, header: Mapping[str, Any], arrays: Arrays) -> bytes:
    described = [
        {"name": name, "dtype": _little(array.dtype).str, "shape": array.shape}
        for name, array in arrays.items()
    ]
    head = orjson.dumps({"kind": kind, "version": version, **header, "arrays": described})
    pieces = [np.asarray(array, _little(array.dtype)).tobytes() for array in arrays.values()]
    return b"".join((_PREFIX.pack(_MAGIC, len(head)), head, *pieces))


@cache
def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<")


def decode(data: bytes, kind: str, version: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return header and arrays (read-only views of `data`). Raises BadFrame for bytes that `encode` did not write
    with this kind and version."""
    try:
        magic, length = _PREFIX.unpack_from(data)
        if magic != _MAGIC:
            raise BadFrame("frame_unreadable", f"expected a packed {kind}, got other bytes")
        position = _PREFIX.size + length
        header: dict[str, Any] = orjson.loads(data[_PREFIX.size : position])
        if header["kind"] != kind:
            raise BadFrame("frame_kind", f"expected a packed {kind}, got {header['kind']!r}")
        if header["version"] != version:
            message = f"packed {kind} of version {header['version']}, this screener reads {version}"
            raise BadFrame("frame_version", message)
        arrays = {}
        for described in header["arrays"]:
            dtype, shape = _dtype(described["dtype"]), tuple(described["shape"])
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(data, dtype, count, position).reshape(shape)
            arrays[described["name"]] = array
            position += array.nbytes
    except (struct.error, orjson.JSONDecodeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadFrame("frame_unreadable", f"unreadable packed {kind}: {error}") from error
    return header, arrays


def _dtype(text: str) -> np.dtype[Any]:
    """Return the type of numbers, truth values or texts that `encode` named. NumPy itself would evaluate other text as
    Python."""
    if not _DTYPE.fullmatch(text):
        raise ValueError(f"an array of {text!r:.40}")
    return np.dtype(text)


def pack_candles(open_time_ms: int, symbols: Sequence[str], planes: NDArray[np.float64]) -> bytes:
    """Return one closed minute of many symbols. planes: (fields, symbols), the fields as in `MINUTE_FIELDS`."""
    header = {"open_time_ms": open_time_ms, "symbols": symbols}
    return encode("minute", 1, header, dict(zip(MINUTE_FIELDS, planes, strict=True)))


def unpack_minute(data: bytes) -> CandleBatch:
    """Return the closed candles that `MarketMatrix.pack_minute` packed, one per symbol.

    Only what the matrix needs was packed: taker volumes are NaN, quote_estimated is False, and event and
    ingest time are the end of the minute. Raises BadFrame for bytes that are not a packed minute.
    """
    header, planes = decode(data, "minute", 1)
    try:
        minute = _minute(header, planes)
        faults = check_rows(minute)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadFrame("frame_unreadable", f"unreadable packed minute: {error!r}") from error
    if faults:
        raise BadFrame("frame_unreadable", f"invalid packed minute: {faults[0][1]}")
    return minute


def _minute(header: Mapping[str, Any], planes: Arrays) -> CandleBatch:
    symbols = tuple(header["symbols"])
    rows = len(symbols)
    fields: dict[str, Any] = {name: planes[name].astype(np.float64, copy=False) for name in MINUTE_FIELDS}
    if any(plane.shape != (rows,) for plane in fields.values()):
        raise ValueError(f"{rows} symbols and planes of another length")
    if not (np.abs(fields["trades"]) <= 2**53).all():
        raise ValueError("an invalid count of trades")
    ends = np.full(rows, header["open_time_ms"] + MINUTE_MS, dtype=np.int64)
    return CandleBatch(
        symbols=symbols,
        symbol_index=np.arange(rows, dtype=np.int32),
        open_time_ms=ends - MINUTE_MS,
        trades=fields.pop("trades").astype(np.int64),
        taker_buy_volume=np.full(rows, np.nan),
        taker_buy_quote_volume=np.full(rows, np.nan),
        quote_estimated=np.zeros(rows, dtype=np.bool_),
        closed=np.ones(rows, dtype=np.bool_),
        event_ts_ms=ends,
        ingest_ts_ms=ends,
        **fields,
    )
