"""Every column equals brute force for any order, gaps, duplicates, corrections and cuts into frames."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.market.fields import METRIC_COLUMNS
from app.market.matrix import MarketMatrix
from tests.support.market_batches import Row, batch_of
from tests.support.market_model import MarketModel, random_minute

START = 26_924_400  # 2021-03-11 17:00 UTC: a Thursday
SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT")


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), gap_chance=st.sampled_from([0.0, 0.001, 0.01, 0.2]))
def test_every_row_of_closed_minutes_in_order_equals_brute_force(seed: int, gap_chance: float) -> None:
    rng = np.random.default_rng(seed)
    model, matrix = MarketModel(), MarketMatrix()
    start, length = START + int(rng.integers(0, 10_080)), int(rng.choice([30, 400, 1800]))
    rows: list[Row] = [
        (symbol, start + i, random_minute(rng), True)
        for i in range(length)
        for symbol in SYMBOLS
        if rng.random() >= gap_chance
    ]
    at = 0
    while at < len(rows):
        some = rows[at : at + int(rng.choice([1, 3, 45, 100, 1000]))]
        at += len(some)
        model.take(some)
        metrics = matrix.update(batch_of(some))
        assert len(metrics) == len(some)
        if rng.random() < 0.3:
            model.check(metrics, some, {int(rng.integers(0, len(some)))})


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_order_of_arrival_gives_the_rows_of_the_minutes_then_known(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, matrix = MarketModel(), MarketMatrix()
    # History makes the long windows whole; then a stretch arrives shuffled, in part twice or corrected.
    history: list[Row] = [(s, START + i, random_minute(rng), True) for i in range(1500) for s in SYMBOLS]
    model.take(history)
    matrix.restore_minutes(batch_of([history[i] for i in rng.permutation(len(history))]))
    first = START + 1500
    stretch: list[Row] = [(s, first + i, random_minute(rng), True) for i in range(40) for s in SYMBOLS]
    extra = [stretch[i] for i in rng.integers(0, len(stretch), 20)]
    extra += [(s, m - int(rng.integers(0, 50)), random_minute(rng), True) for s, m, _, _ in extra[:8]]
    forming = [(s, m, random_minute(rng), False) for s, m, _, _ in extra]
    spread = float(rng.choice([0.5, 10.0]))
    arriving = sorted(stretch + extra + forming, key=lambda row: row[1] + rng.normal(0.0, spread))
    at = 0
    while at < len(arriving):
        some = arriving[at : at + int(rng.choice([1, 4, 30]))]
        at += len(some)
        metrics = matrix.update(batch_of(some))
        model.take(some)
        minutes = metrics.open_time_ms
        for position in range(len(metrics.symbols)):
            assert (np.diff(minutes[metrics.symbol_index == position]) >= 0).all()
        if len(metrics):
            model.check(metrics, some, {int(rng.integers(0, len(metrics))), len(metrics) - 1})


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_how_candles_are_cut_into_frames_changes_no_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows: list[Row] = [
        (symbol, START + i, random_minute(rng), True)
        for i in range(200)
        for symbol in SYMBOLS
        if rng.random() >= 0.01
    ]
    whole = MarketMatrix().update(batch_of(rows))
    by_key = {(whole.symbol_of(i), int(whole.open_time_ms[i])): whole.values[i] for i in range(len(whole))}
    # Symbols on their own, so that arrays have other shapes as well.
    for symbols in [(s,) for s in SYMBOLS] + [SYMBOLS]:
        matrix, mine = MarketMatrix(), [row for row in rows if row[0] in symbols]
        at = 0
        while at < len(mine):
            some = mine[at : at + int(rng.integers(1, 60))]
            at += len(some)
            metrics = matrix.update(batch_of(some))
            for i in range(len(metrics)):
                expected = by_key[metrics.symbol_of(i), int(metrics.open_time_ms[i])]
                np.testing.assert_array_equal(metrics.values[i], expected)


def test_all_metric_columns_are_computed_by_default() -> None:
    assert MarketMatrix().columns == METRIC_COLUMNS
