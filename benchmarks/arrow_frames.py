"""Frames as Arrow IPC streams, the format before blocks: the contender in `benchmarks.frames`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from app.candles.batch import COLUMNS, CandleBatch, IndexArray
from app.market.metrics import MetricsBatch
from app.wire.frames import FrameInfo

_CANDLE_COLUMNS = tuple(name for name in COLUMNS if name != "symbol_index")
_METRIC_ROW_COLUMNS = ("open_time_ms", "closed", "event_ts_ms", "ingest_ts_ms")


def _metadata(kind: str, exchange: str, info: FrameInfo, **more: str) -> dict[str, str]:
    stages = {f"{stage}_ts_ms": str(ts) for stage, ts in info.stage_ts_ms.items()}
    return {"kind": kind, "version": "1", "exchange": exchange, "frame_id": info.frame_id, **stages, **more}


def _symbol_column(symbols: tuple[str, ...], index: IndexArray) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(index, pa.int32()), pa.array(symbols, pa.string()))


def _encode(arrays: Mapping[str, pa.Array], metadata: dict[str, str]) -> bytes:
    fields = [pa.field(name, array.type, nullable=False) for name, array in arrays.items()]
    schema = pa.schema(fields, metadata=metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(list(arrays.values()), schema=schema))
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def encode_candles(batch: CandleBatch, info: FrameInfo) -> bytes:
    columns = {name: pa.array(getattr(batch, name)) for name in _CANDLE_COLUMNS}
    return _encode(
        {"symbol": _symbol_column(batch.symbols, batch.symbol_index), **columns},
        _metadata("candles", batch.exchange, info),
    )


def encode_metrics(batch: MetricsBatch, info: FrameInfo) -> bytes:
    columns = {name: pa.array(getattr(batch, name)) for name in _METRIC_ROW_COLUMNS}
    flat = pa.array(np.ascontiguousarray(batch.values).reshape(-1))
    return _encode(
        {
            "symbol": _symbol_column(batch.symbols, batch.symbol_index),
            **columns,
            "values": pa.FixedSizeListArray.from_arrays(flat, len(batch.columns)),
        },
        _metadata("metrics", batch.exchange, info, columns=",".join(batch.columns)),
    )
