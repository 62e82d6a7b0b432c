"""Frames: the bytes that travel between stages, one columnar batch of one shard per Kafka record.

They are written as blocks of contiguous values (`frame_blocks.py`), which are read as views. The Arrow streams of
version 1 are read too (`arrow_frames.py`), so an upgrade loses no record of a topic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import numpy as np

from app.candles.batch import COLUMNS, CandleBatch
from app.candles.validity import check_rows
from app.errors import BadFrame
from app.market.metrics import MetricsBatch
from app.market.timeframes import TIMEFRAMES
from app.wire.frame_blocks import FrameContent, Kind, read_blocks, write_blocks

Batch = TypeVar("Batch", CandleBatch, MetricsBatch)

_ARROW_MARK: Final = b"\xff\xff\xff\xff"
"""An Arrow IPC stream begins with it, and so does each frame of version 1."""
_BARS_MARK: Final = b"SCREENER-BARS\0"
_TIMEFRAME_BYTES: Final = 4
_CANDLE_COLUMNS: Final = tuple(name for name in COLUMNS if name != "symbol_index")
_METRIC_ROW_COLUMNS: Final = ("open_time_ms", "closed", "event_ts_ms", "ingest_ts_ms")


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """`stage_ts_ms`: stage name -> UTC ms at which that stage sent the frame's rows on.

    frame_id: 32 hex digits from the bridge, kept by every stage, in logs and traces; may be empty.
    refused: reason -> number of rows left out on reading, for an invalid symbol or time.
    """

    stage_ts_ms: Mapping[str, int] = field(default_factory=dict)
    frame_id: str = ""
    refused: Mapping[str, int] = field(default_factory=dict)

    @property
    def refusal(self) -> str:
        """Return the error for the rejected rows."""
        counts = ", ".join(f"{reason} {count:,}" for reason, count in self.refused.items())
        return f"{sum(self.refused.values()):,} rows of the frame are rejected ({counts})"


def encode_candles(batch: CandleBatch, info: FrameInfo | None = None) -> bytes:
    info = info or FrameInfo()
    return write_blocks(
        FrameContent(
            kind="candles",
            exchange=batch.exchange,
            symbols=batch.symbols,
            symbol_index=batch.symbol_index,
            rows={name: getattr(batch, name) for name in _CANDLE_COLUMNS},
            frame_id=info.frame_id,
            stage_ts_ms=info.stage_ts_ms,
        )
    )


def encode_metrics(batch: MetricsBatch, info: FrameInfo | None = None) -> bytes:
    info = info or FrameInfo()
    return write_blocks(
        FrameContent(
            kind="metrics",
            exchange=batch.exchange,
            symbols=batch.symbols,
            symbol_index=batch.symbol_index,
            rows={name: getattr(batch, name) for name in _METRIC_ROW_COLUMNS},
            columns=batch.columns,
            values=batch.values,
            frame_id=info.frame_id,
            stage_ts_ms=info.stage_ts_ms,
        )
    )


def _read(data: bytes, kind: Kind) -> FrameContent:
    if not data.startswith(_ARROW_MARK):
        return read_blocks(data, kind)
    # pyarrow takes a fifth of a second to load, and only the minutes of an upgrade need it
    from app.wire.arrow_frames import read_arrow

    return read_arrow(data, kind)


def _sound(batch: Batch, parts: FrameContent) -> tuple[Batch, FrameInfo]:
    """Return the rows with a valid symbol and valid times: anything may write to a topic."""
    info = FrameInfo(parts.stage_ts_ms, parts.frame_id)
    faults = check_rows(batch)
    if not faults:
        return batch, info
    good = ~np.logical_or.reduce([mask for mask, _ in faults])
    refused = {str(reason): int(np.count_nonzero(mask)) for mask, reason in faults}
    return batch.take(good), replace(info, refused=refused)


def decode_candles(data: bytes) -> tuple[CandleBatch, FrameInfo]:
    """Decode candles. Raises BadFrame for bytes that `encode_candles` of this version or version 1 did not write."""
    parts = _read(data, "candles")
    batch = CandleBatch(
        symbols=parts.symbols, symbol_index=parts.symbol_index, exchange=parts.exchange, **parts.rows
    )
    return _sound(batch, parts)


def decode_metrics(data: bytes) -> tuple[MetricsBatch, FrameInfo]:
    """Decode metrics. `values` is a view of the record, so reading some columns costs only these. Raises BadFrame for
    bytes that `encode_metrics` of this version or version 1 did not write."""
    parts = _read(data, "metrics")
    assert parts.values is not None, "a frame of metrics has values"
    batch = MetricsBatch(
        symbols=parts.symbols,
        symbol_index=parts.symbol_index,
        values=parts.values,
        columns=parts.columns,
        exchange=parts.exchange,
        **parts.rows,
    )
    return _sound(batch, parts)


def is_empty(batch: CandleBatch, info: FrameInfo) -> bool:
    """Return whether the frame was written without rows: the stages pass it on under its id, so that whoever sent it
    knows when everything before it has passed them."""
    return not len(batch) and not info.refused


def encode_bars(timeframe: str, bars: CandleBatch) -> bytes:
    """Return a record of closed bars of a longer timeframe, to warm indicators up from; it travels among candle
    frames."""
    return _BARS_MARK + timeframe.encode().ljust(_TIMEFRAME_BYTES) + encode_candles(bars)


def is_bars(data: bytes) -> bool:
    return data.startswith(_BARS_MARK)


def decode_bars(data: bytes) -> tuple[str, CandleBatch, FrameInfo]:
    """Return (timeframe, bars, info) of a record with `is_bars` true. Raises BadFrame for bytes that `encode_bars` of
    this version or version 1 did not write."""
    head, frame = data[: len(_BARS_MARK) + _TIMEFRAME_BYTES], data[len(_BARS_MARK) + _TIMEFRAME_BYTES :]
    timeframe = head[len(_BARS_MARK) :].decode(errors="replace").strip()
    if timeframe not in TIMEFRAMES or timeframe == "1m":
        raise BadFrame("frame_schema", f"bars of {timeframe!r}, which is not a timeframe above 1m")
    bars, info = decode_candles(frame)
    return timeframe, bars, info
