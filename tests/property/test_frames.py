"""Frames are read back as they were written, and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.candles.batch import COLUMNS, DTYPES, CandleBatch
from app.errors import BadFrame
from app.frames import VERSION, FrameInfo, decode_candles, decode_metrics, encode_candles, encode_metrics
from app.market.metrics import MetricsBatch
from tests.support.candle_batches import Candle, batch_of
from tests.support.metric_rows import Row, metrics_batch

METRIC_ROW_COLUMNS = ("symbol_index", "open_time_ms", "closed", "event_ts_ms", "ingest_ts_ms", "values")

symbol_lists = st.lists(st.text("ABCZ019-_.é", min_size=1, max_size=8), min_size=1, max_size=5, unique=True)
infos = st.dictionaries(st.sampled_from(["bridge", "collector", "calculator"]), st.integers(0, 2**60)).map(
    FrameInfo
)


def column(name: str, rows: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(DTYPES[name], rows)


@st.composite
def candle_batches(draw: st.DrawFn) -> CandleBatch:
    symbols = tuple(draw(symbol_lists))
    rows = draw(st.integers(0, 6))
    index = draw(arrays(np.int32, rows, elements=st.integers(0, len(symbols) - 1)))
    columns = {name: draw(column(name, rows)) for name in COLUMNS if name != "symbol_index"}
    exchange = draw(st.sampled_from(["binance", "bybit", ""]))
    return CandleBatch(symbols=symbols, symbol_index=index, exchange=exchange, **columns)


@st.composite
def metrics_batches(draw: st.DrawFn) -> MetricsBatch:
    symbols = tuple(draw(symbol_lists))
    rows, width = draw(st.integers(0, 5)), draw(st.integers(1, 4))
    index = draw(arrays(np.int32, rows, elements=st.integers(0, len(symbols) - 1)))
    columns = {
        name: draw(column(name, rows)) for name in ("open_time_ms", "closed", "event_ts_ms", "ingest_ts_ms")
    }
    return MetricsBatch(
        symbols=symbols,
        symbol_index=index,
        values=draw(arrays(np.float64, (rows, width))),
        columns=tuple(f"close_{number}m" for number in range(width)),
        **columns,
    )


def same(left: object, right: object, columns: tuple[str, ...]) -> None:
    for name in columns:
        one, other = getattr(left, name), getattr(right, name)
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, err_msg=name)


@given(candle_batches(), infos)
def test_candles_are_read_back_as_they_were(batch: CandleBatch, info: FrameInfo):
    found, found_info = decode_candles(encode_candles(batch, info))
    assert (found.symbols, found.exchange, found_info) == (batch.symbols, batch.exchange, info)
    same(found, batch, COLUMNS)


@given(metrics_batches(), infos)
def test_metrics_are_read_back_as_they_were(batch: MetricsBatch, info: FrameInfo):
    found, found_info = decode_metrics(encode_metrics(batch, info))
    assert (found.symbols, found.columns, found_info) == (batch.symbols, batch.columns, info)
    same(found, batch, METRIC_ROW_COLUMNS)


CANDLES = encode_candles(batch_of([Candle("BTCUSDT", 1), Candle("ETHUSDT", 2), Candle("BTCUSDT", 3)]))
METRICS = encode_metrics(metrics_batch([Row("BTCUSDT", 1), Row("ETHUSDT", 2)]))


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes):
    for decode in (decode_candles, decode_metrics):
        with pytest.raises(BadFrame):
            decode(data)


@given(st.data())
def test_a_frame_cut_short_of_its_rows_is_refused(data: st.DataObject):
    for frame, decode in ((CANDLES, decode_candles), (METRICS, decode_metrics)):
        rows_end = len(frame) - 8  # the stream's end mark
        with pytest.raises(BadFrame):
            decode(frame[: data.draw(st.integers(0, rows_end - 8))])


@given(st.sampled_from([(CANDLES, decode_candles), (METRICS, decode_metrics)]), st.data())
def test_a_damaged_frame_is_refused_or_still_whole(case: tuple, data: st.DataObject):
    frame, decode = case
    damaged = bytearray(frame)
    for at in data.draw(st.lists(st.integers(0, len(frame) - 1), min_size=1, max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        batch, _ = decode(bytes(damaged))
    except BadFrame as error:
        assert error.input_reason.startswith("frame_")
        assert str(error)
    else:
        assert all(batch.symbol_of(row) in batch.symbols for row in range(len(batch)))


def with_metadata(frame: bytes, **changed: str) -> bytes:
    with pa.ipc.open_stream(frame) as reader:
        rows = reader.read_next_batch()
    metadata = {**rows.schema.metadata, **{name.encode(): value.encode() for name, value in changed.items()}}
    return written(rows.replace_schema_metadata(metadata))


def written(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return sink.getvalue().to_pybytes()


def reason_of(decode, data: bytes) -> tuple[str, str]:
    with pytest.raises(BadFrame) as caught:
        decode(data)
    return caught.value.input_reason, str(caught.value)


@pytest.mark.parametrize(("frame", "decode"), [(CANDLES, decode_candles), (METRICS, decode_metrics)])
def test_a_newer_version_is_refused_with_advice(frame: bytes, decode):
    reason, text = reason_of(decode, with_metadata(frame, version=str(VERSION + 1)))
    assert reason == "frame_version"
    assert f"'{VERSION + 1}'" in text
    assert "update" in text


def test_a_frame_of_another_kind_is_refused():
    assert reason_of(decode_candles, METRICS)[0] == "frame_kind"
    assert reason_of(decode_metrics, CANDLES)[0] == "frame_kind"


def test_a_frame_without_metadata_is_refused():
    plain = written(pa.record_batch({"symbol": ["BTCUSDT"]}))
    assert reason_of(decode_candles, plain)[0] == "frame_kind"


def rows_of_frame(frame: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(frame) as reader:
        return reader.read_next_batch()


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


def test_candle_frames_are_plain_tables_for_any_arrow_reader():
    batch = batch_of([Candle("BTCUSDT", 1, 10.5), Candle("ETHUSDT", 2, 11.5, closed=False)])
    table = pa.ipc.open_stream(encode_candles(batch, FrameInfo({"bridge": 5}))).read_all()
    assert table.column("symbol").to_pylist() == ["BTCUSDT", "ETHUSDT"]
    assert table.column("close").to_pylist() == [10.5, 11.5]
    assert table.column("closed").to_pylist() == [True, False]
    assert table.schema.metadata[b"kind"] == b"candles"
    assert table.schema.metadata[b"bridge_ts_ms"] == b"5"


def test_metric_frames_hold_one_row_of_values_per_symbol_for_any_arrow_reader():
    table = pa.ipc.open_stream(METRICS).read_all()
    names = table.schema.metadata[b"columns"].decode().split(",")
    assert [len(values) for values in table.column("values").to_pylist()] == [len(names)] * 2
