"""Frames of version 1, written by the release before and kept as bytes: read as they were, or refused with a reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.candles.batch import COLUMNS, CandleBatch
from app.errors import BadFrame
from app.market.metrics import MetricsBatch
from app.wire.frames import FrameInfo, decode_bars, decode_candles, decode_metrics, encode_candles, is_bars
from tests.support.candle_batches import Candle, batch_of
from tests.support.damaged_frames import assert_refused_or_whole
from tests.support.metric_rows import Row, metrics_batch

FRAMES = Path(__file__).parent / "frames_of_version_1"
CANDLES, METRICS, BARS = ((FRAMES / f"{kind}.bin").read_bytes() for kind in ("candles", "metrics", "bars"))
METRIC_COLUMNS = ("price_change_1h", "rsi_14_15m", "close_1m")


def candles() -> CandleBatch:
    """The content of `candles.bin` and `bars.bin`."""
    batch = batch_of(
        [
            Candle("BTCUSDT", 26976960, 10.5, True, 1618617600123),
            Candle("ETHUSDT", 26976961, 11.5, False, 1618617660456),
            Candle("BTCUSDT", 26976961, 12.25, True, 1618617660789),
        ]
    )
    estimated = np.array([False, True, False])
    return replace(batch, exchange="bybit", trades=np.array([3, 4, 5]), quote_estimated=estimated)


def metrics() -> MetricsBatch:
    """The content of `metrics.bin`."""
    rows = [
        Row("BTCUSDT", 1, {"price_change_1h": 1.5}),
        Row("ETHUSDT", 2, {"price_change_1h": -2.5, "rsi_14_15m": 30.0}, closed=False),
    ]
    return metrics_batch(rows, METRIC_COLUMNS)


def same_candles(found: CandleBatch, expected: CandleBatch) -> None:
    assert (found.symbols, found.exchange) == (expected.symbols, expected.exchange)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def test_candles_are_read():
    found, info = decode_candles(CANDLES)
    same_candles(found, candles())
    assert info == FrameInfo({"bridge": 1618617600200, "collector": 1618617600300}, "ab" * 16)


def test_bars_are_read():
    assert is_bars(BARS)
    timeframe, found, _ = decode_bars(BARS)
    assert timeframe == "4h"
    same_candles(found, candles())


def test_metrics_are_read():
    found, info = decode_metrics(METRICS)
    expected = metrics()
    assert (found.symbols, found.columns) == (expected.symbols, METRIC_COLUMNS)
    assert info.frame_id == "ab" * 16
    for name in ("symbol_index", "open_time_ms", "closed", "event_ts_ms", "ingest_ts_ms", "values"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def test_what_is_read_is_written_in_the_new_form():
    batch, info = decode_candles(CANDLES)
    same_candles(decode_candles(encode_candles(batch, info))[0], candles())


@given(st.data())
def test_a_frame_cut_short_of_its_rows_is_refused(data: st.DataObject):
    for frame, decode in ((CANDLES, decode_candles), (METRICS, decode_metrics)):
        rows_end = len(frame) - 8  # the stream's end mark
        with pytest.raises(BadFrame):
            decode(frame[: data.draw(st.integers(0, rows_end - 8))])


@given(st.sampled_from([(CANDLES, decode_candles), (METRICS, decode_metrics)]), st.data())
def test_a_damaged_frame_is_refused_or_still_whole(case: tuple, data: st.DataObject):
    assert_refused_or_whole(*case, data)


def rows_of_frame(frame: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(frame) as reader:
        return reader.read_next_batch()


def written(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return sink.getvalue().to_pybytes()


def with_metadata(frame: bytes, **changed: str) -> bytes:
    rows = rows_of_frame(frame)
    metadata = {**rows.schema.metadata, **{name.encode(): value.encode() for name, value in changed.items()}}
    return written(rows.replace_schema_metadata(metadata))


def reason_of(decode, data: bytes) -> tuple[str, str]:
    with pytest.raises(BadFrame) as caught:
        decode(data)
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize(("frame", "decode"), [(CANDLES, decode_candles), (METRICS, decode_metrics)])
def test_an_arrow_frame_of_another_version_is_refused_with_advice(frame: bytes, decode):
    reason, text = reason_of(decode, with_metadata(frame, version="9"))
    assert reason == "frame_version"
    assert "'9'" in text
    assert "update" in text


def test_a_frame_of_another_kind_is_refused():
    assert reason_of(decode_candles, METRICS)[0] == "frame_kind"
    assert reason_of(decode_metrics, CANDLES)[0] == "frame_kind"


def test_a_frame_without_metadata_is_refused():
    plain = written(pa.record_batch({"symbol": ["BTCUSDT"]}))
    assert reason_of(decode_candles, plain)[0] == "frame_kind"


def test_a_column_of_another_type_or_name_is_refused_and_named():
    rows = rows_of_frame(CANDLES)
    at = rows.schema.get_field_index("close")
    names = ["price" if name == "close" else name for name in rows.schema.names]
    for changed in (
        rows.set_column(at, "close", rows.column("close").cast(pa.float32())),
        rows.rename_columns(names),
        rows.drop_columns(["close"]),
    ):
        data = written(changed.replace_schema_metadata(rows.schema.metadata))
        reason, text = reason_of(decode_candles, data)
        assert reason == "frame_schema"
        assert "close: double" in text


def test_a_null_in_a_column_is_refused():
    rows = rows_of_frame(CANDLES)
    at = rows.schema.get_field_index("close")
    field = rows.schema.field("close")
    holed = pa.record_batch(
        [pa.array([1.0, None, 2.0]) if i == at else rows.column(i) for i in range(rows.num_columns)],
        schema=pa.schema([*rows.schema], metadata=rows.schema.metadata),
    )
    assert field.nullable is False
    assert reason_of(decode_candles, written(holed))[0] in ("frame_schema", "frame_unreadable")


def test_names_of_columns_that_do_not_fit_the_values_are_refused():
    assert reason_of(decode_metrics, with_metadata(METRICS, columns="close_1m"))[0] == "frame_schema"


def test_a_stage_time_that_is_no_number_is_refused():
    assert reason_of(decode_candles, with_metadata(CANDLES, bridge_ts_ms="noon"))[0] == "frame_schema"
