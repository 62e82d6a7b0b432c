"""The matrix of latest metrics equals a dictionary kept row by row."""

from __future__ import annotations

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.market.fields import METRIC_COLUMNS
from app.sidecar.rest.metrics_json import EncodedMetrics
from app.sidecar.state.latest import LatestMetrics
from tests.support.metric_batches import metrics_batch

rows = st.tuples(
    st.sampled_from(["A", "B", "C", "D", "E"]),
    st.integers(0, 4).map(lambda minute: minute * 60_000),
    st.fixed_dictionaries({"close_1m": st.floats(1, 100)}, optional={"rsi_14_1d": st.floats(0, 100)}),
)


@given(st.lists(st.lists(rows, max_size=12), max_size=6))
def test_the_newest_minute_wins_and_within_it_the_last_to_arrive(frames):
    latest, expected = LatestMetrics(), {}
    for frame in frames:
        latest.take(metrics_batch(frame))
        for symbol, time_ms, values in frame:
            if symbol not in expected or time_ms >= expected[symbol][0]:
                expected[symbol] = (time_ms, values)
    assert latest.symbols() == sorted(expected)
    for symbol, (time_ms, values) in expected.items():
        row = latest.row(symbol)
        found = {
            name: value for name, value in zip(METRIC_COLUMNS, row.values, strict=True) if value == value
        }
        assert (row.open_time_ms, found) == (time_ms, values)


def test_it_grows_with_the_universe():
    latest = LatestMetrics()
    names = [f"S{n}" for n in range(1_000)]
    for start in range(0, 1_000, 100):
        chunk = names[start : start + 100]
        latest.take(metrics_batch([(name, 0, {"close_1m": float(name[1:]) + 1}) for name in chunk]))
    assert len(latest) == 1_000
    assert [latest.row(name).values[METRIC_COLUMNS.index("close_1m")] for name in names] == list(
        np.arange(1_000) + 1.0
    )


def test_frames_of_another_version_are_read_by_column_name():
    latest = LatestMetrics()
    columns = ("unheard_of_1m", "close_1m", "price_change_5m")
    row = ("A", 0, {"unheard_of_1m": 9.0, "close_1m": 1.0, "price_change_5m": 2.0})
    latest.take(metrics_batch([("A", 0, {"open_1m": 5.0})]))
    latest.take(metrics_batch([row], columns))
    values = dict(zip(METRIC_COLUMNS, latest.row("A").values, strict=True))
    assert {name: value for name, value in values.items() if value == value} == {
        "close_1m": 1.0,
        "price_change_5m": 2.0,
    }


def test_a_frame_without_any_known_column_makes_everything_null():
    latest = LatestMetrics()
    latest.take(metrics_batch([("A", 0, {"x_1m": 1.0})], ("x_1m",)))
    assert all(value != value for value in latest.row("A").values)


def test_the_json_of_a_symbol_changes_with_its_row():
    latest = LatestMetrics()
    encoded = EncodedMetrics(latest)
    assert encoded.of("A") is None
    for close in (1.0, 2.0):
        latest.take(metrics_batch([("A", 0, {"close_1m": close})]))
        assert orjson.loads(encoded.of("A"))["timeframes"]["1m"]["close"] == close


def test_every_metric_column_is_in_the_json_exactly_once():
    latest = LatestMetrics()
    values = {name: float(i) + 0.5 for i, name in enumerate(METRIC_COLUMNS)}
    latest.take(metrics_batch([("A", 0, values)]))
    found: list[float] = []

    def collect(node: object) -> None:
        if isinstance(node, dict):
            for part in node.values():
                collect(part)
        elif isinstance(node, float):
            found.append(node)

    collect(orjson.loads(EncodedMetrics(latest).of("A")))
    assert sorted(found) == sorted(values.values())


@given(st.lists(st.lists(rows, max_size=12), max_size=6), st.integers(0, 4))
def test_the_market_holds_the_newest_row_of_every_symbol_that_is_current(frames, minutes):
    latest, expected = LatestMetrics(), {}
    for frame in frames:
        latest.take(metrics_batch(frame))
        for symbol, time_ms, _ in frame:
            expected[symbol] = max(time_ms, expected.get(symbol, 0))
    assert [(seen.symbol, seen.event_ts_ms - 60_000) for seen in latest.seen()] == sorted(expected.items())
    newest_ms = max(expected.values(), default=0)
    current = {symbol for symbol, time_ms in expected.items() if newest_ms - time_ms <= minutes * 60_000}
    market = latest.market(minutes * 60_000)
    assert {market.symbol_of(row) for row in range(len(market))} == current
    for row in range(len(market)):
        known = latest.row(market.symbol_of(row))
        assert np.array_equal(market.values[row], known.values, equal_nan=True)
        assert (market.open_time_ms[row], market.closed[row]) == (known.open_time_ms, known.closed)
