"""Columns that TA-Lib lacks, against values computed by hand."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from app.market.matrix import MarketMatrix
from app.market.metrics import MetricsBatch
from tests.support.market_batches import batch_of
from tests.support.market_oracle import Minute

THURSDAY = int(datetime(2021, 3, 11, 8, tzinfo=UTC).timestamp()) // 60
MONDAY = int(datetime(2021, 3, 8, tzinfo=UTC).timestamp()) // 60


def of(metrics: MetricsBatch, column: str) -> float:
    return float(metrics.values[-1, metrics.columns.index(column)])


def fed(minutes: list[Minute], start: int, closed: bool = True) -> MetricsBatch:
    rows = [("AAA", start + i, minute, True) for i, minute in enumerate(minutes)]
    rows[-1] = (*rows[-1][:3], closed)
    return MarketMatrix().update(batch_of(rows))


def test_vcp_and_pivots_of_a_five_minute_window() -> None:
    # High 12, low 8, close 11; 100 base for 1,000 quote: vwap 10.
    minutes = [Minute(10, 10, 10, 10, 20, 200, 1)] * 3 + [
        Minute(10, 12, 8, 9, 20, 200, 1),
        Minute(9, 11, 9, 11, 20, 200, 1),
    ]
    metrics = fed(minutes, THURSDAY)
    assert of(metrics, "vwap_5m") == 10.0
    assert of(metrics, "vcp_5m") == pytest.approx(
        (11 / 10) * ((11 - 8) - (12 - 11)) / (12 - 8), rel=1e-12
    )  # 0.55
    pivot = (12 + 8 + 11) / 3
    expected = {"fib_pivot": pivot, "fib_r1": pivot + 1.528, "fib_r2": pivot + 2.472, "fib_r3": pivot + 4,
                "fib_s1": pivot - 1.528, "fib_s2": pivot - 2.472, "fib_s3": pivot - 4}  # fmt: skip
    for field, value in expected.items():
        assert of(metrics, f"{field}_5m") == pytest.approx(value, rel=1e-12), field


def test_vcp_is_zero_where_nothing_moved() -> None:
    assert of(fed([Minute(5, 5, 5, 5, 1, 5, 1)] * 5, THURSDAY), "vcp_5m") == 0.0


def test_ichimoku_spans_at_a_bar_are_those_computed_26_bars_earlier() -> None:
    # Bar k (15 minutes) ranges from 100 + k to 101 + k; the current bar is number 79.
    minutes = [Minute(100 + k, 101 + k, 100 + k, 101 + k, 1, 1, 1) for k in range(80) for _ in range(15)]
    metrics = fed(minutes, THURSDAY - 15 * 80)
    assert of(metrics, "ichimoku_conversion_15m") == (180 + 171) / 2  # bars 71 .. 79
    assert of(metrics, "ichimoku_base_15m") == (180 + 154) / 2  # bars 54 .. 79
    # At bar 53: conversion over 45 .. 53, base over 28 .. 53, span B over 2 .. 53.
    assert of(metrics, "ichimoku_span_a_15m") == ((154 + 145) / 2 + (154 + 128) / 2) / 2
    assert of(metrics, "ichimoku_span_b_15m") == (154 + 102) / 2


def test_ichimoku_cloud_is_null_before_78_bars() -> None:
    minutes = [Minute(1, 1, 1, 1, 1, 1, 1)] * (77 * 15)
    metrics = fed(minutes, THURSDAY - 15 * 77)
    assert math.isnan(of(metrics, "ichimoku_span_b_15m"))
    assert of(metrics, "ichimoku_base_15m") == 1.0


def bubble_market(bars: int, n: int, last: float, change: float) -> list[Minute]:
    """Bars of n minutes with quote volumes n * 8 and n * 12 in turn (mean 10 n, deviation 2 n), then one of
    `last`."""
    past = [Minute(1, 1, 1, 1, 1, 8.0 if k % 2 else 12.0, 1) for k in range(bars) for _ in range(n)]
    end = 1 + change
    final = Minute(1, max(1, end), min(1, end), end, 1, last / n, 1)
    return [*past, *[Minute(1, 1, 1, 1, 1, last / n, 1)] * (n - 1), final]


@pytest.mark.parametrize(
    ("name", "n", "z", "size"),
    [
        ("5m", 5, 1.4, 0), ("5m", 5, 1.6, 1), ("5m", 5, 2.6, 2), ("5m", 5, 3.6, 3),
        ("15m", 15, 1.1, 0), ("15m", 15, 1.3, 1), ("15m", 15, 2.1, 2), ("15m", 15, 3.1, 3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("change", [0.002, -0.002, 0.0005])
def test_a_volume_bubble_has_the_size_of_its_z_score_and_the_side_of_its_change(
    name: str, n: int, z: float, size: int, change: float
) -> None:
    metrics = fed(bubble_market(24, n, n * (10 + 2 * z), change), THURSDAY)
    assert of(metrics, f"bubble_z_{name}") == pytest.approx(z, rel=1e-9)
    expected_size = size if abs(change) >= 0.001 else 0
    assert of(metrics, f"bubble_size_{name}") == expected_size
    assert of(metrics, f"bubble_side_{name}") == (math.copysign(1, change) if expected_size else 0)


def test_a_bubble_is_null_with_fewer_than_twenty_bars_before_it() -> None:
    assert math.isnan(of(fed(bubble_market(19, 5, 100, 0.01), THURSDAY), "bubble_z_5m"))
    assert not math.isnan(of(fed(bubble_market(20, 5, 100, 0.01), THURSDAY), "bubble_z_5m"))


def surge_market(closes: tuple[float, float, float]) -> list[Minute]:
    quiet = [Minute(1, 1, 1, 1, 1, 2.0, 1)] * 100  # twenty bars of 10
    loud = [
        Minute(c, c, c, c, 1, volume / 5, 1)
        for c, volume in zip(closes, (40.0, 30.0, 50.0), strict=True)
        for _ in range(5)
    ]
    return quiet + loud


@pytest.mark.parametrize(
    ("closes", "side"), [((1.1, 1.2, 1.3), 1), ((0.9, 0.8, 0.7), -1), ((1.1, 1.2, 1.2), 0)]
)
def test_a_surge_is_the_least_of_three_closed_bars_over_the_mean_of_twenty(
    closes: tuple[float, float, float], side: int
) -> None:
    metrics = fed(surge_market(closes), THURSDAY)
    assert of(metrics, "surge_ratio_5m") == pytest.approx(3.0, rel=1e-12)
    assert of(metrics, "surge_side_5m") == side


def test_a_bar_whose_last_minute_is_forming_is_not_closed_for_a_surge() -> None:
    assert math.isnan(of(fed(surge_market((1.1, 1.2, 1.3)), THURSDAY, closed=False), "surge_ratio_5m"))


def test_vwap_of_the_day_starts_at_midnight_and_of_the_week_on_monday() -> None:
    week = (
        [Minute(1, 1, 1, 1, 1, 1, 1)] * 10
        + [Minute(2, 2, 2, 2, 1, 2, 1)] * 1440 * 2
        + [Minute(5, 5, 5, 5, 1, 5, 1)] * 30
    )
    # Ten minutes of Sunday at 1, Monday and Tuesday at 2, half an hour of Wednesday at 5.
    metrics = fed(week, MONDAY - 10)
    assert of(metrics, "vwap_day") == 5.0
    assert of(metrics, "vwap_week") == pytest.approx((2 * 2880 + 5 * 30) / (2880 + 30), rel=1e-12)


def test_vwap_of_a_period_with_a_missing_minute_is_null() -> None:
    metrics = fed([Minute(1, 1, 1, 1, 1, 1, 1)] * 100, MONDAY + 1)
    assert math.isnan(of(metrics, "vwap_day"))
    assert math.isnan(of(metrics, "vwap_week"))
