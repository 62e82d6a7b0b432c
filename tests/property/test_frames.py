"""Frames are read back as they were written, and nothing else is taken for one."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.candles.batch import COLUMNS, DTYPES, MINUTE_MS, CandleBatch
from app.candles.validity import EARLIEST_MS, LATEST_MS
from app.errors import BadFrame
from app.market.metrics import MetricsBatch
from app.wire.frame_blocks import MAGIC, VERSION
from app.wire.frames import FrameInfo, decode_candles, decode_metrics, encode_candles, encode_metrics
from tests.support.candle_batches import Candle, batch_of
from tests.support.damaged_frames import assert_refused_or_whole
from tests.support.metric_rows import Row, metrics_batch

HEAD = struct.Struct("<8sII")
METRIC_ROW_COLUMNS = ("symbol_index", "open_time_ms", "closed", "event_ts_ms", "ingest_ts_ms", "values")

symbols = st.text("ABCZ019", min_size=1, max_size=8)
symbol_lists = st.lists(symbols, min_size=1, max_size=5, unique=True)
TIMES = {
    "open_time_ms": st.integers(EARLIEST_MS // MINUTE_MS, LATEST_MS // MINUTE_MS - 1).map(
        lambda m: m * MINUTE_MS
    ),
    "event_ts_ms": st.integers(EARLIEST_MS, LATEST_MS - 1),
    "ingest_ts_ms": st.integers(0, LATEST_MS - 1),
}
IMPOSSIBLE_MS = (EARLIEST_MS - 1, LATEST_MS, -1, -9_000_000_000_000_000, 2**63 - 1, -(2**63))
infos = st.dictionaries(
    st.sampled_from(["bridge", "collector", "calculator"]), st.integers(EARLIEST_MS, LATEST_MS - 1)
).map(FrameInfo)


def column(name: str, rows: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(DTYPES[name], rows, elements=TIMES.get(name))


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
        with pytest.raises(BadFrame) as caught:
            decode(frame[: data.draw(st.integers(0, len(frame) - 1))])
        assert caught.value.reason == "frame_unreadable"


@given(st.sampled_from([(CANDLES, decode_candles), (METRICS, decode_metrics)]), st.data())
def test_a_damaged_frame_is_refused_or_still_whole(case: tuple, data: st.DataObject):
    assert_refused_or_whole(*case, data)


def with_header(frame: bytes, **changed: object) -> bytes:
    """The frame with these fields of its header, or without those that are None."""
    magic, version, length = HEAD.unpack_from(frame)
    header = {**orjson.loads(frame[HEAD.size : HEAD.size + length]), **changed}
    text = orjson.dumps({name: value for name, value in header.items() if value is not None})
    return HEAD.pack(magic, version, len(text)) + text + frame[HEAD.size + length :]


def reason_of(decode, data: bytes) -> tuple[str, str]:
    with pytest.raises(BadFrame) as caught:
        decode(data)
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize(("frame", "decode"), [(CANDLES, decode_candles), (METRICS, decode_metrics)])
def test_a_newer_version_is_refused_with_advice(frame: bytes, decode):
    newer = frame[: len(MAGIC)] + (VERSION + 1).to_bytes(4, "little") + frame[len(MAGIC) + 4 :]
    reason, text = reason_of(decode, newer)
    assert reason == "frame_version"
    assert f"'{VERSION + 1}'" in text
    assert "update" in text


def test_a_frame_of_another_kind_is_refused():
    assert reason_of(decode_candles, METRICS)[0] == "frame_kind"
    assert reason_of(decode_metrics, CANDLES)[0] == "frame_kind"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"kind": None}, "frame_kind"),
        ({"kind": ["metrics"]}, "frame_kind"),
        ({"rows": None}, "frame_schema"),
        ({"rows": -2}, "frame_schema"),
        ({"rows": True}, "frame_schema"),
        ({"rows": 2.0}, "frame_schema"),
        ({"rows": 1}, "frame_unreadable"),
        ({"rows": 2**62}, "frame_unreadable"),
        ({"symbols": "BTCUSDT"}, "frame_schema"),
        ({"symbols": ["BTCUSDT", 1]}, "frame_schema"),
        ({"symbols": ["BTCUSDT"]}, "frame_unreadable"),
        ({"symbols": []}, "frame_unreadable"),
        ({"columns": None}, "frame_schema"),
        ({"columns": "close_1m"}, "frame_schema"),
        ({"columns": "close_1m", "width": 1}, "frame_unreadable"),
        ({"width": None}, "frame_schema"),
        ({"exchange": None}, "frame_schema"),
        ({"exchange": 7}, "frame_schema"),
        ({"frame_id": {}}, "frame_schema"),
        ({"stage_ts_ms": {"bridge": "noon"}}, "frame_schema"),
        ({"stage_ts_ms": [1]}, "frame_schema"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(changed: dict[str, object], reason: str):
    assert reason_of(decode_metrics, with_header(METRICS, **changed))[0] == reason


@pytest.mark.parametrize("ts_ms", [-1, 0, 1_700_000_000_000_000, 2**63])
def test_an_impossible_time_of_a_stage_is_left_out_and_costs_no_row(ts_ms: int):
    stages = {"bridge": ts_ms, "collector": 1_700_000_000_000}
    batch, info = decode_metrics(with_header(METRICS, stage_ts_ms=stages))
    assert info.stage_ts_ms == {"collector": 1_700_000_000_000}
    assert len(batch) == len(decode_metrics(METRICS)[0])


def test_a_header_that_is_no_json_object_is_refused():
    for text, reason in ((b"{", "frame_unreadable"), (b"", "frame_unreadable"), (b"[1]", "frame_kind")):
        assert reason_of(decode_candles, HEAD.pack(MAGIC, VERSION, len(text)) + text)[0] == reason


def test_a_row_of_a_symbol_that_is_not_named_is_refused():
    for index in (-1, 2, 2**31 - 1):
        batch = replace(metrics_batch([Row("BTCUSDT", 1)]), symbol_index=np.array([index], np.int32))
        assert reason_of(decode_metrics, encode_metrics(batch))[0] == "frame_unreadable"


def test_a_flag_that_is_neither_true_nor_false_is_refused():
    assert reason_of(decode_metrics, METRICS[:-1] + b"\x02")[0] == "frame_unreadable"


def test_bytes_after_the_last_block_are_refused():
    assert reason_of(decode_metrics, METRICS + b"\0")[0] == "frame_unreadable"


def test_the_values_are_a_view_of_the_record():
    batch, _ = decode_metrics(METRICS)
    owner = batch.values.base
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert owner is METRICS


def test_blocks_are_aligned():
    for frame, decode in ((CANDLES, decode_candles), (METRICS, decode_metrics)):
        batch, _ = decode(frame)
        assert batch.open_time_ms.flags.aligned
        assert HEAD.unpack_from(frame)[2] % 8 == 0


@given(candle_batches() | metrics_batches(), st.data())
def test_a_row_with_an_impossible_time_costs_that_row(batch: CandleBatch | MetricsBatch, data: st.DataObject):
    assume(len(batch))
    row = data.draw(st.integers(0, len(batch) - 1))
    name = data.draw(st.sampled_from(sorted(TIMES)))
    wrong = getattr(batch, name).copy()
    wrong[row] = data.draw(st.sampled_from(IMPOSSIBLE_MS if name != "ingest_ts_ms" else IMPOSSIBLE_MS[1:]))
    found, info = read_back(replace(batch, **{name: wrong}))
    others = np.arange(len(batch)) != row
    same(found, batch.take(others), ("symbol_index", "open_time_ms", "event_ts_ms", "closed"))
    assert info.refused == {"bad_time": 1}
    assert "1 rows of the frame are rejected (bad_time 1)" in info.refusal


@given(
    candle_batches() | metrics_batches(),
    st.sampled_from(["", "A B", "A.B", "A*", ">", "a\n", "x" * 100, "\x00"]),
)
def test_rows_of_a_name_that_is_no_symbol_are_left_out(batch: CandleBatch | MetricsBatch, name: str):
    found, info = read_back(replace(batch, symbols=(name, *batch.symbols[1:])))
    bad = batch.symbol_index == 0
    assert len(found) == len(batch) - np.count_nonzero(bad)
    assert info.refused == ({"bad_symbol": int(np.count_nonzero(bad))} if bad.any() else {})


def read_back(batch: CandleBatch | MetricsBatch) -> tuple[CandleBatch | MetricsBatch, FrameInfo]:
    if isinstance(batch, CandleBatch):
        return decode_candles(encode_candles(batch))
    return decode_metrics(encode_metrics(batch))
