"""Which candles lead to which rows, and what is counted."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from app.errors import BadFrame
from app.market.fields import METRIC_COLUMNS
from app.market.matrix import MarketMatrix
from app.market.metrics import MetricsBatch
from app.market.rings.packing import unpack_minute
from tests.support.market_batches import Row, batch_of
from tests.support.market_model import MarketModel, random_minute
from tests.support.market_oracle import Minute

START = 26_924_400  # 2021-03-11 17:00 UTC: a Thursday


def flat(price: float, quote_volume: float = 100.0) -> Minute:
    return Minute(price, price, price, price, quote_volume / price, quote_volume, 1)


def closed(minute: int, price: float = 1.0, symbol: str = "AAA", quote_volume: float = 100.0) -> Row:
    return (symbol, START + minute, flat(price, quote_volume), True)


def forming(minute: int, price: float = 1.0, symbol: str = "AAA") -> Row:
    return (symbol, START + minute, flat(price), False)


def keys(metrics: MetricsBatch) -> list[tuple[str, int, bool]]:
    return [
        (metrics.symbol_of(i), int(metrics.open_time_ms[i]) // 60_000 - START, bool(metrics.closed[i]))
        for i in range(len(metrics))
    ]


def value(metrics: MetricsBatch, column: str, row: int = -1) -> float:
    return float(metrics.values[row, metrics.columns.index(column)])


def matrix_with(rows: list[Row], **options: int) -> MarketMatrix:
    matrix = MarketMatrix(**options)
    matrix.update(batch_of(rows))
    return matrix


def test_each_closed_candle_gets_a_row_in_order_of_minute_whatever_the_order_in_the_batch() -> None:
    metrics = MarketMatrix().update(batch_of([closed(2), closed(0), closed(1, symbol="BBB"), closed(1)]))
    assert keys(metrics) == [("AAA", 0, True), ("AAA", 1, True), ("BBB", 1, True), ("AAA", 2, True)]


def test_a_row_carries_the_times_of_its_candle() -> None:
    metrics = MarketMatrix().update(batch_of([closed(1), closed(0)]))
    assert metrics.event_ts_ms.tolist() == [1, 0]
    assert metrics.ingest_ts_ms.tolist() == [1_001, 1_000]


def test_forming_updates_of_a_minute_are_merged_into_the_last_and_counted() -> None:
    matrix = matrix_with([closed(0)])
    metrics = matrix.update(batch_of([forming(1, 2.0), forming(1, 3.0), forming(1, 4.0)]))
    assert keys(metrics) == [("AAA", 1, False)]
    assert value(metrics, "price_change_1m") == 300.0
    assert matrix.counters.merged_forming == 2


def test_a_forming_candle_before_the_closed_one_of_its_minute_gets_its_own_row() -> None:
    metrics = matrix_with([closed(0)]).update(batch_of([forming(1, 2.0), closed(1, 3.0), forming(2, 6.0)]))
    assert keys(metrics) == [("AAA", 1, False), ("AAA", 1, True), ("AAA", 2, False)]
    assert [value(metrics, "price_change_1m", row) for row in range(3)] == [100.0, 200.0, 100.0]


def test_a_forming_candle_never_beats_a_closed_one() -> None:
    matrix = matrix_with([closed(0), closed(1), closed(3)])
    assert len(matrix.update(batch_of([forming(3, 9.0), forming(0, 9.0)]))) == 0
    assert len(matrix.update(batch_of([forming(2, 9.0)]))) == 0
    assert matrix.counters.stale_forming == 3
    assert keys(matrix.update(batch_of([closed(4), forming(4, 9.0)]))) == [("AAA", 4, True)]
    assert matrix.counters.stale_forming == 4


def test_forming_candles_leave_no_trace_in_later_rows() -> None:
    rng = np.random.default_rng(5)
    rows: list[Row] = [("AAA", START + i, random_minute(rng), True) for i in range(130)]
    plain, disturbed = MarketMatrix(), MarketMatrix()
    for row in rows:
        disturbed.update(batch_of([(row[0], row[1], random_minute(rng), False)]))
        expected, found = plain.update(batch_of([row])), disturbed.update(batch_of([row]))
        np.testing.assert_array_equal(found.values, expected.values)


def test_a_forming_candle_after_a_gap_sees_the_gap_and_the_gap_can_still_be_filled() -> None:
    rng = np.random.default_rng(6)
    model, matrix = MarketModel(), MarketMatrix()
    rows: list[Row] = [("AAA", START + i, random_minute(rng), True) for i in range(1700)]
    model.take(rows[:1500])
    matrix.restore_minutes(batch_of(rows[:1500]))
    ahead: list[Row] = [("AAA", START + 1690, random_minute(rng), False)]
    model.check(matrix.update(batch_of(ahead)), ahead, [0])
    for at in range(1500, 1690, 10):
        some = rows[at : at + 10]
        model.take(some)
        metrics = matrix.update(batch_of(some))
        assert len(metrics) == 10
        model.check(metrics, some, [0, 9])
    model.check(matrix.update(batch_of(ahead)), ahead, [0])


def test_the_identical_closed_candle_again_changes_nothing_and_is_counted() -> None:
    matrix = matrix_with([closed(0), closed(1)])
    before = stored(matrix)
    assert len(matrix.update(batch_of([closed(1), closed(0)]))) == 0
    assert stored(matrix) == before
    assert keys(matrix.update(batch_of([closed(2), closed(2)]))) == [("AAA", 2, True)]
    assert matrix.counters.duplicates == 3
    assert matrix.counters.corrections == 0
    again = matrix_with([closed(0), closed(1)])
    assert stored(again) == before


def test_a_correction_of_a_minute_that_the_rings_no_longer_hold_whole_changes_nothing() -> None:
    matrix = matrix_with([closed(i) for i in range(1_600)])
    before = matrix.indicator_snapshot()
    assert len(matrix.update(batch_of([closed(0, 2.0, quote_volume=50.0)]))) == 0
    assert matrix.indicator_snapshot() == before
    assert matrix.counters.duplicates == 1


def stored(matrix: MarketMatrix) -> tuple[bytes, list[bytes]]:
    """What a restart of this matrix would go on from."""
    return matrix.indicator_snapshot(), [matrix.pack_minute((START + i) * 60_000) for i in range(3)]


def test_a_correction_replaces_and_leads_to_rows_from_its_minute_to_the_newest() -> None:
    matrix = matrix_with([closed(i) for i in range(5)])
    metrics = matrix.update(batch_of([closed(2, 2.0)]))
    assert keys(metrics) == [("AAA", 2, True), ("AAA", 3, True), ("AAA", 4, True)]
    assert [value(metrics, "price_change_1m", row) for row in range(3)] == [100.0, -50.0, 0.0]
    assert value(metrics, "high_5m") == 2.0
    assert set(metrics.event_ts_ms.tolist()) == {0}
    assert matrix.counters.corrections == 1


def test_two_different_closed_candles_of_a_minute_in_one_batch_are_a_correction_and_one_row() -> None:
    matrix = matrix_with([closed(0)])
    metrics = matrix.update(batch_of([closed(1, 2.0), closed(1, 3.0)]))
    assert keys(metrics) == [("AAA", 1, True)]
    assert value(metrics, "price_change_1m") == 200.0
    assert matrix.counters.corrections == 1


def test_a_late_candle_recomputes_the_windows_that_hold_it() -> None:
    matrix = matrix_with([closed(i) for i in range(8) if i != 4])
    metrics = matrix.update(batch_of([closed(4)]))
    assert keys(metrics) == [("AAA", i, True) for i in range(4, 8)]
    assert [value(metrics, "coverage_5m", row) for row in range(4)] == [1.0] * 4
    assert matrix.counters.late == 1
    assert matrix.counters.corrections == 0


def test_several_late_candles_of_one_batch_lead_to_one_row_per_minute() -> None:
    matrix = matrix_with([closed(i) for i in range(10) if i not in (4, 6)])
    metrics = matrix.update(batch_of([closed(6), closed(4), closed(10)]))
    assert keys(metrics) == [("AAA", i, True) for i in range(4, 11)]


def test_a_candle_older_than_the_horizon_corrects_the_state_and_leads_to_the_newest_row_only() -> None:
    matrix = matrix_with([closed(i) for i in range(100)], late_horizon_minutes=30)
    metrics = matrix.update(batch_of([closed(50, quote_volume=700.0)]))
    assert keys(metrics) == [("AAA", 99, True)]
    assert value(metrics, "quote_volume_1h") == 59 * 100.0 + 700.0


def test_a_candle_older_than_every_ring_is_ignored_and_counted() -> None:
    matrix = matrix_with([closed(5000)])
    assert len(matrix.update(batch_of([closed(0)]))) == 0
    assert matrix.counters.late == 1


def test_after_a_silence_longer_than_the_rings_a_symbol_starts_anew() -> None:
    matrix = matrix_with([closed(i) for i in range(100)])
    metrics = matrix.update(batch_of([closed(i, 2.0) for i in range(10_000, 10_020)]))
    assert len(metrics) == 20
    assert value(metrics, "coverage_1d") == 20 / 1440
    assert value(metrics, "quote_volume_15m") == 1500.0
    assert math.isnan(value(metrics, "quote_volume_1h"))


def test_a_missing_bar_ends_the_run_of_an_indicator_and_a_later_fill_restores_it() -> None:
    rng = np.random.default_rng(8)
    rows: list[Row] = [("AAA", START + i, random_minute(rng), True) for i in range(120)]
    whole, gapped = MarketMatrix(), MarketMatrix()
    expected = whole.update(batch_of(rows))
    found = gapped.update(batch_of([row for i, row in enumerate(rows) if i != 90]))
    assert not math.isnan(value(expected, "rsi_14_1m"))
    assert not math.isnan(value(expected, "rsi_14_5m"))
    assert math.isnan(value(found, "ema_50_1m"))
    assert math.isnan(value(found, "rsi_14_5m"))
    filled = gapped.update(batch_of([rows[90]]))
    np.testing.assert_array_equal(filled.values, expected.values[90:])


def test_symbols_appear_and_vanish_without_touching_the_others() -> None:
    rng = np.random.default_rng(9)
    alone, crowded = MarketMatrix(), MarketMatrix()
    for i in range(60):
        row: Row = ("AAA", START + i, random_minute(rng), True)
        others = [closed(i, symbol=f"S{k}") for k in range(i, 2 * i)]
        expected = alone.update(batch_of([row]))
        found = crowded.update(batch_of([row, *others]))
        np.testing.assert_array_equal(
            found.values[[found.symbol_of(r) == "AAA" for r in range(len(found))]], expected.values
        )
        crowded.drop_symbol(f"S{i}")
    assert f"S{59}" not in crowded.symbols
    assert "AAA" in crowded.symbols
    fresh = crowded.update(batch_of([closed(70, symbol="S59")]))
    assert value(fresh, "coverage_5m") == 1 / 5


def test_the_memory_of_most_symbols_is_returned_when_they_leave_and_the_others_go_on() -> None:
    rng = np.random.default_rng(11)
    kept = ("KA", "KB", "KC")
    alone, crowded = MarketMatrix(), MarketMatrix()
    for i in range(40):
        rows: list[Row] = [(name, START + i, random_minute(rng), True) for name in kept]
        others = [closed(i, symbol=f"S{k}") for k in range(300)]
        expected = alone.update(batch_of(rows))
        found = crowded.update(batch_of([*others[:150], *rows, *others[150:]]) if i < 20 else batch_of(rows))
        of_kept = [found.symbol_of(row) in kept for row in range(len(found))]
        np.testing.assert_array_equal(found.values[of_kept], expected.values)
        if i == 20:
            full_bytes = crowded.memory_bytes()
            for k in range(300):
                crowded.drop_symbol(f"S{k}")
            assert crowded.memory_bytes() < full_bytes / 4
    assert crowded.symbols == kept
    again = MarketMatrix()
    again.restore_indicators(crowded.indicator_snapshot())
    assert again.symbols == kept


def test_a_matrix_of_few_columns_computes_the_same_values() -> None:
    rng = np.random.default_rng(10)
    rows: list[Row] = [(s, START + i, random_minute(rng), True) for i in range(3_000) for s in ("AAA", "BBB")]
    batch = batch_of(rows)
    everything = MarketMatrix().update(batch)
    for column in METRIC_COLUMNS:
        found = MarketMatrix(columns=[column]).update(batch)
        assert found.columns == (column,)
        np.testing.assert_array_equal(found.values[:, 0], everything.values[:, METRIC_COLUMNS.index(column)])


def test_an_unknown_column_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="price_change_2h"):
        MarketMatrix(columns=["price_change_2h"])


def test_an_empty_batch_leads_to_an_empty_batch() -> None:
    metrics = MarketMatrix().update(batch_of([closed(0)]).take(slice(0, 0)))
    assert len(metrics) == 0
    assert metrics.values.shape == (0, len(METRIC_COLUMNS))


def test_symbols_of_a_batch_without_rows_take_no_room() -> None:
    matrix = MarketMatrix()
    batch = batch_of([closed(0), closed(0, symbol="BBB")])
    matrix.update(batch.take(slice(0, 1)))
    assert matrix.symbols == ("AAA",)


def test_a_pack_holds_only_symbols_that_closed_the_minute() -> None:
    matrix = matrix_with([closed(0), closed(1), closed(0, symbol="BBB"), closed(1, symbol="CCC"), forming(2)])
    assert sorted(unpack_minute(matrix.pack_minute((START + 1) * 60_000)).symbols) == ["AAA", "CCC"]
    assert len(unpack_minute(matrix.pack_minute((START + 2) * 60_000))) == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d[:10],
        lambda d: b"none" + d[4:],
        lambda d: d[:-8],
        lambda d: b"",
        # no type of numbers: NumPy parses such text as Python, and raises a SyntaxError
        lambda d: d.replace(b'"<f8"', b'",,8"'),
        lambda d: d.replace(b'"<f8"', b'"|O8"'),
    ],
)
def test_damaged_bytes_are_refused(damage) -> None:
    matrix = matrix_with([closed(0)])
    for data, read in (
        (matrix.pack_minute(START * 60_000), unpack_minute),
        (matrix.indicator_snapshot(), matrix.restore_indicators),
    ):
        with pytest.raises(BadFrame):
            read(damage(data))


def test_bytes_of_another_kind_or_version_are_refused() -> None:
    matrix = matrix_with([closed(0)])
    with pytest.raises(BadFrame, match="expected a packed minute"):
        unpack_minute(matrix.indicator_snapshot())
    newer = matrix.pack_minute(START * 60_000).replace(b'"version":1', b'"version":2')
    with pytest.raises(BadFrame, match="version 2"):
        unpack_minute(newer)


def test_memory_per_symbol_stays_below_the_floor_with_a_full_day_of_minutes() -> None:
    matrix = MarketMatrix()
    batch = batch_of([closed(0, symbol=f"S{k}") for k in range(200)])
    for minute in range(0, 1500, 300):
        matrix.restore_minutes(replace(batch, open_time_ms=batch.open_time_ms + minute * 60_000))
    assert matrix.memory_bytes() / 200 < 160_000
