"""FRAMES.md is enough to read a frame: its example reads what the screener writes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from app.candles.batch import COLUMNS
from app.wire.frame_blocks import LAYOUTS
from app.wire.frames import FrameInfo, encode_candles, encode_metrics
from tests.support.candle_batches import Candle, batch_of
from tests.support.metric_rows import Row, metrics_batch

PAGE = (Path(__file__).parents[2] / "app/wire/FRAMES.md").read_text()
INFO = FrameInfo({"bridge": 1_700_000_000_000}, "ab" * 16)


@pytest.fixture(scope="module")
def read_frame() -> Callable[[bytes], dict[str, np.ndarray]]:
    example = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    names: dict = {}
    exec(example[1], names)  # reason: a page of ours
    return names["read_frame"]


def test_candles_are_read_by_the_example(read_frame):
    batch = batch_of([Candle("BTCUSDT", 1, 10.5), Candle("ETHUSDT", 2, 11.5, closed=False)])
    found = read_frame(encode_candles(batch, INFO))
    assert found.pop("symbol").tolist() == ["BTCUSDT", "ETHUSDT"]
    assert sorted(found) == sorted(set(COLUMNS) - {"symbol_index"})
    for name, values in found.items():
        np.testing.assert_array_equal(values, getattr(batch, name), err_msg=name)


def test_metrics_are_read_by_the_example(read_frame):
    batch = metrics_batch([Row("BTCUSDT", 1, {"rsi_14_15m": 30.0}), Row("ETHUSDT", 2, closed=False)])
    found = read_frame(encode_metrics(batch, INFO))
    assert found["symbol"].tolist() == ["BTCUSDT", "ETHUSDT"]
    assert found["closed"].tolist() == [True, False]
    assert found["event_ts_ms"].tolist() == batch.event_ts_ms.tolist()
    np.testing.assert_array_equal(np.column_stack([found[name] for name in batch.columns]), batch.values)


def test_what_is_read_makes_an_arrow_table(read_frame):
    frame = encode_metrics(metrics_batch([Row("BTCUSDT", 1, {"rsi_14_15m": 30.0})]), INFO)
    assert pa.table(read_frame(frame)).column("rsi_14_15m").to_pylist() == [30.0]


@pytest.mark.parametrize("kind", list(LAYOUTS))
def test_the_page_lists_the_columns_in_their_order(kind: str):
    cells = next(line for line in PAGE.splitlines() if line.startswith(f"| `{kind}` |")).split("|")
    ints, floats, flags = ([name.strip() for name in cell.split(",")] for cell in cells[2:5])
    assert (tuple(ints), tuple(flags)) == (LAYOUTS[kind].int64, LAYOUTS[kind].flags)
    if kind == "candles":
        assert tuple(floats) == LAYOUTS[kind].float64
