"""A matrix put together again from its snapshots and minutes is the one that never stopped."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.candles.batch import CandleBatch, concatenate
from app.market.matrix import MarketMatrix
from app.market.metrics import MetricsBatch
from app.market.rings.packing import unpack_minute
from tests.support.market_batches import Row, batch_of
from tests.support.market_model import random_minute

START = 26_924_400  # 2021-03-11 17:00 UTC: a Thursday
SYMBOLS = ("AAAUSDT", "BBBUSDT")
LENGTH = 3 * 1440


@cache
def market() -> CandleBatch:
    """Three days of two symbols, the second with gaps."""
    rng = np.random.default_rng(7)
    rows: list[Row] = []
    for i in range(LENGTH):
        rows.append((SYMBOLS[0], START + i, random_minute(rng), True))
        if rng.random() >= 0.001:
            rows.append((SYMBOLS[1], START + i, random_minute(rng), True))
    return batch_of(rows)


def between(first: int, until: int) -> CandleBatch:
    """The candles of minutes START + first .. START + until - 1."""
    minutes = market().open_time_ms // 60_000 - START
    return market().take((minutes >= first) & (minutes < until))


def fed(matrix: MarketMatrix, first: int, until: int, frame_rows: int = 500) -> list[MetricsBatch]:
    candles = between(first, until)
    return [
        matrix.update(candles.take(slice(at, at + frame_rows))) for at in range(0, len(candles), frame_rows)
    ]


def assert_same_rows(found: list[MetricsBatch], expected: list[MetricsBatch]) -> None:
    assert sum(len(f) for f in found) == sum(len(f) for f in expected) > 0
    for name in ("values", "open_time_ms", "closed"):
        ours, theirs = (np.concatenate([getattr(f, name) for f in frames]) for frames in (found, expected))
        np.testing.assert_array_equal(ours, theirs)


def shuffled_in_parts(candles: CandleBatch, rng: np.random.Generator, parts: int) -> list[CandleBatch]:
    order = rng.permutation(len(candles))
    return [candles.take(rows) for rows in np.array_split(order, parts)]


@settings(max_examples=12, deadline=None)
@given(
    crash=st.integers(1600, LENGTH - 200),
    age=st.sampled_from([0, 1, 14, 60, 300, 1000]),
    indicators_first=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_old_indicators_and_the_minutes_of_a_table_give_the_state_of_an_uninterrupted_run(
    crash: int, age: int, indicators_first: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    uninterrupted = MarketMatrix()
    fed(uninterrupted, 0, crash - age, 5000)
    snapshot = uninterrupted.indicator_snapshot()
    fed(uninterrupted, crash - age, crash)

    recovered = MarketMatrix()
    if indicators_first:
        recovered.restore_indicators(snapshot)
    # A table keeps two days; some of it arrives twice.
    minutes = between(crash - 2 * 1440 - 80, crash)
    recovered.restore_minutes(minutes)
    for part in shuffled_in_parts(minutes.take(rng.integers(0, len(minutes), 300)), rng, 2):
        recovered.restore_minutes(part)
    if not indicators_first:
        recovered.restore_indicators(snapshot)
    assert_same_rows(fed(recovered, crash, crash + 150), fed(uninterrupted, crash, crash + 150))


@settings(max_examples=10, deadline=None)
@given(length=st.integers(20, 1500), seed=st.integers(0, 2**32 - 1))
def test_minutes_restored_in_any_order_and_parts_give_the_state_of_an_uninterrupted_run(
    length: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    uninterrupted, recovered = MarketMatrix(), MarketMatrix()
    fed(uninterrupted, 0, length, 5000)
    for part in shuffled_in_parts(between(0, length), rng, int(rng.integers(1, 6))):
        recovered.restore_minutes(part)
    assert_same_rows(fed(recovered, length, length + 40), fed(uninterrupted, length, length + 40))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_correction_between_snapshot_and_crash_survives_the_crash(seed: int) -> None:
    rng = np.random.default_rng(seed)
    crash = 2000 + int(rng.integers(0, 500))
    uninterrupted = MarketMatrix()
    fed(uninterrupted, 0, crash, 5000)
    snapshot = uninterrupted.indicator_snapshot()
    corrected = batch_of([
        (SYMBOLS[0], START + crash - int(rng.integers(1, 900)), random_minute(rng), True) for _ in range(3)
    ])  # fmt: skip
    uninterrupted.update(corrected)

    recovered = MarketMatrix()
    recovered.restore_indicators(snapshot)
    recovered.restore_minutes(concatenate([between(0, crash), corrected]))
    assert_same_rows(fed(recovered, crash, crash + 40), fed(uninterrupted, crash, crash + 40))


@settings(max_examples=10, deadline=None)
@given(minute=st.integers(0, 1499))
def test_a_packed_minute_holds_its_candles(minute: int) -> None:
    matrix = MarketMatrix()
    matrix.restore_minutes(between(0, 1500))
    given_candles = between(minute, minute + 1)
    unpacked = unpack_minute(matrix.pack_minute((START + minute) * 60_000))
    for row in range(len(given_candles)):
        position = unpacked.symbols.index(given_candles.symbol_of(row))
        for name in (
            "open_time_ms",
            "open",
            "high",
            "low",
            "close",
            "volume",
            "quote_volume",
            "trades",
            "closed",
        ):
            assert getattr(unpacked, name)[position] == getattr(given_candles, name)[row]
    assert len(unpacked) == len(given_candles)


@settings(max_examples=6, deadline=None)
@given(crash=st.integers(2000, 3000), lost=st.integers(1, 300))
def test_minutes_that_the_indicators_saw_but_the_table_lost_are_evaluated_again_alike(
    crash: int, lost: int
) -> None:
    uninterrupted = MarketMatrix()
    expected = fed(uninterrupted, 0, crash + 20, 5000)
    snapshot_at = MarketMatrix()
    snapshot_at.restore_minutes(between(0, crash))
    recovered = MarketMatrix()
    recovered.restore_indicators(snapshot_at.indicator_snapshot())
    recovered.restore_minutes(between(0, crash - lost))
    found = fed(recovered, crash - lost, crash + 20)
    rows = sum(len(f) for f in found)
    values = np.concatenate([f.values for f in expected])[-rows:]
    np.testing.assert_array_equal(np.concatenate([f.values for f in found]), values)


def test_indicators_go_on_where_a_minute_they_saw_is_lost_for_good() -> None:
    crash, lost = 2500, 2490
    uninterrupted = MarketMatrix()
    uninterrupted.restore_minutes(between(0, crash))
    recovered = MarketMatrix()
    recovered.restore_indicators(uninterrupted.indicator_snapshot())
    recovered.restore_minutes(concatenate([between(0, lost), between(lost + 1, crash)]))
    (found,), (expected,) = fed(recovered, crash, crash + 1), fed(uninterrupted, crash, crash + 1)
    for column in ("rsi_14_1m", "ema_50_1m", "macd_signal_1m"):
        position = found.columns.index(column)
        np.testing.assert_array_equal(found.values[:, position], expected.values[:, position])
    assert np.isnan(found.values[:, found.columns.index("high_1h")]).all()


@settings(max_examples=5, deadline=None)
@given(cut=st.integers(1, 699))
def test_minutes_before_the_first_known_one_lengthen_the_history(cut: int) -> None:
    uninterrupted, recovered, late = MarketMatrix(), MarketMatrix(), MarketMatrix()
    fed(uninterrupted, 0, 700, 5000)
    recovered.restore_minutes(between(cut, 700))
    recovered.restore_minutes(between(0, cut))
    fed(late, cut, 700, 5000)
    fed(late, 0, cut, 5000)
    expected = fed(uninterrupted, 700, 720)
    assert_same_rows(fed(recovered, 700, 720), expected)
    assert_same_rows(fed(late, 700, 720), expected)
