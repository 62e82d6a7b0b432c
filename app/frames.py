"""Frames: the bytes that travel between stages, one columnar batch of one shard per Kafka record.

Encoding: Arrow IPC stream of one record batch, readable by any Arrow tool. The schema's metadata holds
`kind` (candles or metrics), `version`, `exchange`, `frame_id`, and the stage times `*_ts_ms` (when each stage sent the
frame, UTC ms). Candle frames are plain columns with a dictionary-encoded symbol. Metric frames keep their
columns in one fixed-size-list column `values`, so that reading them costs the same for 1 and 200 columns;
their names are in the metadata (`columns`, comma separated).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.candles.batch import COLUMNS, DTYPES, CandleBatch, IndexArray
from app.errors import BadFrame
from app.market.metrics import MetricsBatch
from app.market.timeframes import TIMEFRAMES

VERSION = 1
_BARS_MARK = b"SCREENER-BARS\0"
_TIMEFRAME_BYTES = 4
_CANDLE_COLUMNS = tuple(name for name in COLUMNS if name != "symbol_index")
_METRIC_ROW_COLUMNS = ("open_time_ms", "closed", "event_ts_ms", "ingest_ts_ms")


def _schema(columns: tuple[str, ...], *more: pa.Field) -> pa.Schema:
    symbol = pa.field("symbol", pa.dictionary(pa.int32(), pa.string()), nullable=False)
    plain = [pa.field(name, pa.from_numpy_dtype(DTYPES[name]), nullable=False) for name in columns]
    return pa.schema([symbol, *plain, *more])


_CANDLE_SCHEMA = _schema(_CANDLE_COLUMNS)


@cache
def _metrics_schema(width: int) -> pa.Schema:
    values = pa.field("values", pa.list_(pa.float64(), width), nullable=False)
    return _schema(_METRIC_ROW_COLUMNS, values)


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """`stage_ts_ms`: stage name -> UTC ms at which that stage sent the frame's rows on.

    frame_id: 32 hex digits that the bridge gave it, kept by every stage, in logs and traces; empty: it has none.
    """

    stage_ts_ms: Mapping[str, int] = field(default_factory=dict)
    frame_id: str = ""


def _metadata(kind: str, exchange: str, info: FrameInfo, **more: str) -> dict[str, str]:
    stages = {f"{stage}_ts_ms": str(ts) for stage, ts in info.stage_ts_ms.items()}
    named = {"frame_id": info.frame_id} if info.frame_id else {}
    return {"kind": kind, "version": str(VERSION), "exchange": exchange, **named, **stages, **more}


def _symbol_column(symbols: tuple[str, ...], index: IndexArray) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(index, pa.int32()), pa.array(symbols, pa.string()))


def _encode(names: list[str], arrays: list[pa.Array], metadata: dict[str, str]) -> bytes:
    schema = pa.schema(
        [pa.field(name, array.type, nullable=False) for name, array in zip(names, arrays, strict=True)],
        metadata=metadata,
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def encode_candles(batch: CandleBatch, info: FrameInfo | None = None) -> bytes:
    arrays = [_symbol_column(batch.symbols, batch.symbol_index)]
    arrays += [pa.array(getattr(batch, name)) for name in _CANDLE_COLUMNS]
    metadata = _metadata("candles", batch.exchange, info or FrameInfo())
    return _encode(["symbol", *_CANDLE_COLUMNS], arrays, metadata)


def encode_metrics(batch: MetricsBatch, info: FrameInfo | None = None) -> bytes:
    width = len(batch.columns)
    arrays = [_symbol_column(batch.symbols, batch.symbol_index)]
    arrays += [pa.array(getattr(batch, name)) for name in _METRIC_ROW_COLUMNS]
    flat = pa.array(np.ascontiguousarray(batch.values).reshape(-1))
    arrays.append(pa.FixedSizeListArray.from_arrays(flat, width))
    metadata = _metadata("metrics", batch.exchange, info or FrameInfo(), columns=",".join(batch.columns))
    return _encode(["symbol", *_METRIC_ROW_COLUMNS, "values"], arrays, metadata)


def _open(data: bytes, kind: str) -> tuple[pa.RecordBatch, dict[str, str]]:
    """The rows and metadata of a frame of `kind`, safe to look into."""
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


def _check_metadata(metadata: Mapping[str, str], kind: str) -> None:
    if metadata.get("kind") != kind:
        raise BadFrame("frame_kind", f"expected a frame of {kind}, got {metadata.get('kind')!r}")
    if metadata.get("version") != str(VERSION):
        raise BadFrame(
            "frame_version",
            f"frame version {metadata.get('version')!r}, this screener reads {VERSION}: update the older of the two",
        )


def _check_columns(rows: pa.RecordBatch, schema: pa.Schema) -> None:
    if not rows.schema.equals(schema):
        lacking = [f"{field.name}: {field.type}" for field in schema if field not in rows.schema]
        raise BadFrame("frame_schema", f"frame with other columns, lacking: {', '.join(lacking)[:200]}")
    if any(column.null_count for column in rows.columns):
        raise BadFrame("frame_schema", "frame with nulls")


def _info(metadata: Mapping[str, str]) -> FrameInfo:
    suffix = "_ts_ms"
    stage_ts_ms = {k.removesuffix(suffix): int(v) for k, v in metadata.items() if k.endswith(suffix)}
    return FrameInfo(stage_ts_ms, metadata.get("frame_id", ""))


def _numpy(batch: pa.RecordBatch, name: str) -> NDArray[Any]:
    return np.asarray(batch.column(name).to_numpy(zero_copy_only=False), dtype=DTYPES[name])


def decode_candles(data: bytes) -> tuple[CandleBatch, FrameInfo]:
    """Raises BadFrame for anything that `encode_candles` of this version did not write."""
    table, metadata = _open(data, "candles")
    _check_columns(table, _CANDLE_SCHEMA)
    try:
        symbol = table.column("symbol")
        batch = CandleBatch(
            symbols=tuple(symbol.dictionary.to_pylist()),
            symbol_index=symbol.indices.to_numpy(),
            exchange=metadata["exchange"],
            **{name: _numpy(table, name) for name in _CANDLE_COLUMNS},
        )
        return batch, _info(metadata)
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise BadFrame("frame_schema", f"candle frame with unexpected metadata: {error}") from error


def decode_metrics(data: bytes) -> tuple[MetricsBatch, FrameInfo]:
    """Raises BadFrame for anything that `encode_metrics` of this version did not write."""
    table, metadata = _open(data, "metrics")
    names = tuple(metadata.get("columns", "").split(","))
    _check_columns(table, _metrics_schema(len(names)))
    try:
        symbol = table.column("symbol")
        # not flatten(): it imports pyarrow.compute, half a second of work; a decoded column has no offset
        flat = table.column("values").values.to_numpy(zero_copy_only=True)
        batch = MetricsBatch(
            symbols=tuple(symbol.dictionary.to_pylist()),
            symbol_index=symbol.indices.to_numpy(),
            values=flat.reshape(table.num_rows, len(names)),
            columns=names,
            exchange=metadata["exchange"],
            **{name: _numpy(table, name) for name in _METRIC_ROW_COLUMNS},
        )
        return batch, _info(metadata)
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise BadFrame("frame_schema", f"metrics frame with unexpected metadata: {error}") from error


def encode_bars(timeframe: str, bars: CandleBatch) -> bytes:
    """A record of closed bars of a longer timeframe, to warm indicators up from; it travels among candle frames."""
    return _BARS_MARK + timeframe.encode().ljust(_TIMEFRAME_BYTES) + encode_candles(bars)


def is_bars(data: bytes) -> bool:
    return data.startswith(_BARS_MARK)


def decode_bars(data: bytes) -> tuple[str, CandleBatch]:
    """(timeframe, bars) of a record of which `is_bars` is true. Raises BadFrame for what `encode_bars` of this version
    did not write."""
    head, frame = data[: len(_BARS_MARK) + _TIMEFRAME_BYTES], data[len(_BARS_MARK) + _TIMEFRAME_BYTES :]
    timeframe = head[len(_BARS_MARK) :].decode(errors="replace").strip()
    if timeframe not in TIMEFRAMES or timeframe == "1m":
        raise BadFrame("frame_schema", f"bars of {timeframe!r}, which is no timeframe above 1m")
    return timeframe, decode_candles(frame)[0]
