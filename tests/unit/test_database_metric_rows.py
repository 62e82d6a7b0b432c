"""Which metrics become which rows."""

from __future__ import annotations

import numpy as np

from app.candles.batch import MINUTE_MS
from app.market.fields import METRIC_COLUMNS
from app.sinks.metric_rows import (
    TIMEFRAME_NAMES,
    VALUE_COLUMNS,
    MetricRows,
    concatenate_metric_rows,
    metric_rows,
)
from tests.support.database import MIDNIGHT_MS, candles, metrics
from tests.support.metric_batches import metrics_batch


def bars(rows: MetricRows) -> list[tuple[str, str, int]]:
    """(symbol, timeframe, minutes after midnight) of each row, sorted."""
    return sorted(
        (rows.symbols[s], TIMEFRAME_NAMES[t], (ms - MIDNIGHT_MS) // MINUTE_MS)
        for s, t, ms in zip(
            rows.symbol_index.tolist(), rows.timeframe.tolist(), rows.time_ms.tolist(), strict=True
        )
    )


def test_a_day_of_minutes_ends_every_bar_once_and_its_row_has_the_bars_open_time() -> None:
    rows = metric_rows(metrics(candles(["AUSDT"], 1440)))
    lengths = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "8h": 480, "1d": 1440}
    expected = [
        ("AUSDT", name, start) for name, length in lengths.items() for start in range(0, 1440, length)
    ]
    assert bars(rows) == sorted(expected)


def test_a_forming_minute_ends_no_bar() -> None:
    batch = candles(["AUSDT"], 5, closed=np.array([False, True, True, False, False]))
    assert bars(metric_rows(metrics(batch))) == [("AUSDT", "1m", 1), ("AUSDT", "1m", 2)]


def test_every_metric_column_is_stored_in_the_row_of_its_timeframe() -> None:
    batch = metrics(candles(["AUSDT"], 1440))
    rows = metric_rows(batch)
    last_minute = dict(zip(METRIC_COLUMNS, batch.values[-1].tolist(), strict=True))
    stored = {
        value
        for timeframe, name in enumerate(TIMEFRAME_NAMES)
        for value in rows.values[np.flatnonzero(rows.timeframe == timeframe)[-1]].tolist()
    }
    assert {value for value in stored if not np.isnan(value)} == set(last_minute.values())


def test_a_value_lies_under_the_name_of_its_field() -> None:
    batch = metrics(candles(["AUSDT"], 15))
    rows = metric_rows(batch)
    last_minute = dict(zip(METRIC_COLUMNS, batch.values[-1].tolist(), strict=True))
    row = rows.values[np.flatnonzero(rows.timeframe == TIMEFRAME_NAMES.index("15m"))[0]]
    stored = dict(zip(VALUE_COLUMNS, row.tolist(), strict=True))
    assert stored["volume"] == last_minute["base_volume_15m"]
    assert stored["quote_volume"] == last_minute["quote_volume_15m"]
    assert stored["rsi_14"] == last_minute["rsi_14_15m"]
    assert stored["ichimoku_span_b"] == last_minute["ichimoku_span_b_15m"]
    assert stored["bubble_z"] == last_minute["bubble_z_15m"]
    assert np.isnan(stored["vwap_day"])


def test_columns_a_sender_of_another_version_does_not_have_are_null() -> None:
    batch = metrics(candles(["AUSDT"], 1), columns=["close_1m", "something_new_1m"])
    rows = metric_rows(batch)
    stored = dict(zip(VALUE_COLUMNS, rows.values[0].tolist(), strict=True))
    assert stored.pop("close") == batch.values[0, 0]
    assert all(np.isnan(value) for value in stored.values())


def test_parts_of_different_symbols_are_joined() -> None:
    parts = [
        metric_rows(metrics(candles(symbols, 1))) for symbols in (["AUSDT", "BUSDT"], ["CUSDT", "AUSDT"])
    ]
    joined = concatenate_metric_rows(parts)
    assert [name for name, _, _ in bars(joined)] == ["AUSDT", "AUSDT", "BUSDT", "CUSDT"]
    assert len(concatenate_metric_rows([])) == 0


def test_a_frame_without_one_known_column_has_no_rows():
    assert len(metric_rows(metrics_batch([("BTCUSDT", 1_700_000_040_000, {})], columns=("a", "b")))) == 0
