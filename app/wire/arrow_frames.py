"""Reads frames of version 1, which are in the topics when the screener is upgraded. None are written.

Each is an Arrow IPC stream of one record batch. The schema's metadata holds `kind`, `version`, `exchange`, `frame_id`,
and the times of stages as `*_ts_ms`. Candles are plain columns with a dictionary-encoded symbol. Metrics keep their
columns in one fixed-size-list column `values`; the names are in the metadata (`columns`, comma separated).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from app.candles.batch import COLUMNS, DTYPES
from app.errors import BadFrame
from app.wire.frame_blocks import VERSION, FrameContent, Kind, possible_times

_VERSION: Final = 1
_TIME_SUFFIX: Final = "_ts_ms"
_ROW_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "candles": tuple(name for name in COLUMNS if name != "symbol_index"),
    "metrics": ("open_time_ms", "closed", "event_ts_ms", "ingest_ts_ms"),
}


def _schema(kind: Kind, width: int) -> pa.Schema:
    symbol = pa.field("symbol", pa.dictionary(pa.int32(), pa.string()), nullable=False)
    plain = [pa.field(name, pa.from_numpy_dtype(DTYPES[name]), nullable=False) for name in _ROW_COLUMNS[kind]]
    values = [pa.field("values", pa.list_(pa.float64(), width), nullable=False)] if kind == "metrics" else []
    return pa.schema([symbol, *plain, *values])


def read_arrow(data: bytes, kind: Kind) -> FrameContent:
    """Read a frame. Raises BadFrame for anything that is no frame of version 1 of this kind."""
    table, metadata = _open(data, kind)
    columns = tuple(metadata.get("columns", "").split(",")) if kind == "metrics" else ()
    _check_columns(table, _schema(kind, len(columns)))
    try:
        symbol = table.column("symbol")
        rows = {name: _numpy(table, name) for name in _ROW_COLUMNS[kind]}
        values = None
        if kind == "metrics":
            # not flatten(): it imports pyarrow.compute, half a second of work; a decoded column has no offset
            flat = table.column("values").values.to_numpy(zero_copy_only=True)
            values = flat.reshape(table.num_rows, len(columns))
        return FrameContent(
            kind=kind,
            exchange=metadata["exchange"],
            symbols=tuple(symbol.dictionary.to_pylist()),
            symbol_index=symbol.indices.to_numpy(),
            rows=rows,
            columns=columns,
            values=values,
            frame_id=metadata.get("frame_id", ""),
            stage_ts_ms=possible_times(
                {
                    name.removesuffix(_TIME_SUFFIX): int(text)
                    for name, text in metadata.items()
                    if name.endswith(_TIME_SUFFIX)
                }
            ),
        )
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise BadFrame("frame_schema", f"frame of {kind} with unexpected metadata: {error}") from error


def _open(data: bytes, kind: Kind) -> tuple[pa.RecordBatch, dict[str, str]]:
    """Return the rows and metadata of a frame of `kind`, safe to look into."""
    try:
        with pa.ipc.open_stream(data) as reader:
            metadata = {k.decode(): v.decode() for k, v in (reader.schema.metadata or {}).items()}
            _check_metadata(metadata, kind)
            rows = reader.read_next_batch()
        # damaged offsets and indices point outside their buffers: looking there would end the process
        rows.validate(full=True)
    except (pa.ArrowException, OSError, StopIteration, UnicodeDecodeError, MemoryError) as error:
        raise BadFrame("frame_unreadable", f"not an Arrow frame: {error}") from error
    return rows, metadata


def _check_metadata(metadata: Mapping[str, str], kind: Kind) -> None:
    if metadata.get("kind") != kind:
        raise BadFrame("frame_kind", f"expected a frame of {kind}, got {metadata.get('kind')!r}")
    if metadata.get("version") != str(_VERSION):
        raise BadFrame(
            "frame_version",
            f"Arrow frame of version {metadata.get('version')!r}, this screener reads {_VERSION} and {VERSION}: "
            "update the older of the two",
        )


def _check_columns(rows: pa.RecordBatch, schema: pa.Schema) -> None:
    if not rows.schema.equals(schema):
        lacking = [f"{field.name}: {field.type}" for field in schema if field not in rows.schema]
        raise BadFrame("frame_schema", f"frame without the columns: {', '.join(lacking)[:200]}")
    if any(column.null_count for column in rows.columns):
        raise BadFrame("frame_schema", "frame with nulls")


def _numpy(batch: pa.RecordBatch, name: str) -> np.ndarray[Any, Any]:
    return np.asarray(batch.column(name).to_numpy(zero_copy_only=False), dtype=DTYPES[name])
