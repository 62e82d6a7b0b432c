"""Bars made of rows: whole ones only, sums exact, as decimals are written."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.candles.batch import MINUTE_MS
from app.candles.intervals import DAY_MS, INTERVALS, Interval
from app.database.candles.kline_rows import Kline, Rows, bars_of

MIDNIGHT_MS = 1_709_164_800_000
VOLUMES = ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")
row_values = st.fixed_dictionaries(
    {
        "minute": st.integers(0, 25),
        "open": st.integers(1, 999).map(lambda value: value / 100),
        "close": st.integers(1, 999).map(lambda value: value / 100),
        "volume": st.decimals("0", "1e12", places=3).map(float),
        "quote_volume": st.decimals("0", "1e12", places=8).map(float),
        "taker_buy_volume": st.none() | st.integers(0, 10**9).map(lambda value: value / 1000),
        "taker_buy_quote_volume": st.just(1e-7),
        "trades": st.integers(0, 10**6),
    }
)


def rows_of(rows: list[dict[str, Any]], minutes: int = 1) -> Rows:
    """Rows as long as `minutes`, at `minute` since midnight, in order of time."""
    rows = sorted(rows, key=lambda row: row["minute"])
    volumes = [[row[name] for row in rows] for name in VOLUMES]
    return Rows(
        time_ms=np.array([MIDNIGHT_MS + row["minute"] * MINUTE_MS for row in rows], np.int64),
        prices=np.array(
            [
                [row["open"] for row in rows],
                [max(row["open"], row["close"]) for row in rows],
                [min(row["open"], row["close"]) for row in rows],
                [row["close"] for row in rows],
            ]
        ),
        volumes=np.array([[0.0 if value is None else value for value in line] for line in volumes]),
        unknown=np.array([[value is None for value in line] for line in volumes]),
        trades=np.array([row["trades"] for row in rows], np.int64),
        minutes=np.full(len(rows), minutes, np.int64),
    )


def row(minute: int, **values: Any) -> dict[str, Any]:
    usual = {"open": 1.0, "close": 2.0, "volume": 1.5, "quote_volume": 3.0, "trades": 2}
    return {"minute": minute, **usual, "taker_buy_volume": 0.5, "taker_buy_quote_volume": 1.0, **values}


def plainly(rows: list[dict[str, Any]], interval: Interval, newest_ms: int) -> list[Kline]:
    """The same bars, one value at a time."""
    bars: dict[int, list[dict[str, Any]]] = {}
    for one in sorted(rows, key=lambda row: row["minute"]):
        start_ms = interval.start_of(MIDNIGHT_MS + one["minute"] * MINUTE_MS)
        bars.setdefault(start_ms, []).append(one)
    found = []
    for start_ms, members in bars.items():
        end_ms = interval.step(start_ms, 1)
        if len(members) * MINUTE_MS != min(end_ms, newest_ms + MINUTE_MS) - start_ms:
            continue
        volume, quote, taker, taker_quote = (
            None if None in values else sum((Decimal(repr(value)) for value in values), Decimal(0))
            for values in ([one[name] for one in members] for name in VOLUMES)
        )
        assert volume is not None
        assert quote is not None
        prices = [price for one in members for price in (one["open"], one["close"])]
        bar = (start_ms, end_ms - 1, members[0]["open"], max(prices), min(prices), members[-1]["close"])
        trades = sum(one["trades"] for one in members)
        found.append(Kline(*bar, volume, quote, trades, taker, taker_quote))
    return found


@given(
    rows=st.lists(row_values, min_size=1, max_size=26, unique_by=lambda row: row["minute"]),
    name=st.sampled_from(["1m", "3m", "5m", "1h"]),
)
def test_bars_equal_a_computation_value_by_value(rows: list[dict[str, Any]], name: str):
    newest_ms = MIDNIGHT_MS + max(row["minute"] for row in rows) * MINUTE_MS
    found, invalid = bars_of(rows_of(rows), INTERVALS[name], newest_ms)
    assert found == plainly(rows, INTERVALS[name], newest_ms)
    assert len(invalid) == 0


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((12.0,), "12"),
        ((0.1, 0.2, 0.3), "0.6"),
        ((1.5, 2.5), "4.0"),
        ((1e22, 0.001), "10000000000000000000000.001"),
        ((1e-7,), "0.0000001"),
        ((123456789.12345678, 9e29), "900000000000000000000123456789.12345678"),
        ((-0.0,), "0"),
    ],
)
def test_a_volume_is_the_sum_of_what_the_exchange_wrote(values: tuple[float, ...], text: str):
    rows = rows_of([row(minute, volume=value) for minute, value in enumerate(values)])
    newest_ms = MIDNIGHT_MS + (len(values) - 1) * MINUTE_MS
    (bar,), _ = bars_of(rows, INTERVALS["5m"], newest_ms)
    assert format(bar.volume, "f") == text


@pytest.mark.parametrize(
    "values",
    [
        {"open": 0.0},
        {"close": float("inf")},
        {"volume": float("nan")},
        {"quote_volume": 1e30},
        {"taker_buy_volume": -1.0},
        {"trades": -1},
        {"trades": 10**12 + 1},
    ],
    ids=str,
)
def test_a_bar_with_an_invalid_row_is_left_out_and_named(values: dict[str, Any]):
    rows = [row(minute, **(values if minute == 3 else {})) for minute in range(10)]
    found, invalid = bars_of(rows_of(rows), INTERVALS["5m"], MIDNIGHT_MS + 9 * MINUTE_MS)
    assert [bar.open_time_ms for bar in found] == [MIDNIGHT_MS + 5 * MINUTE_MS]
    assert invalid.tolist() == [MIDNIGHT_MS]


def test_a_bar_that_forms_has_all_its_minutes_so_far_and_one_with_a_gap_is_left_out():
    rows = [row(minute) for minute in (0, 1, 3, 4, 5, 6)]
    found, _ = bars_of(rows_of(rows), INTERVALS["5m"], MIDNIGHT_MS + 6 * MINUTE_MS)
    assert [(bar.open_time_ms, bar.volume) for bar in found] == [
        (MIDNIGHT_MS + 5 * MINUTE_MS, Decimal("3.0"))
    ]


def test_months_are_of_the_calendar():
    days = [row(day * 1440) for day in range(1, 40)]  # March 2024 and a part of April
    newest_ms = MIDNIGHT_MS + 39 * DAY_MS + DAY_MS - MINUTE_MS
    found, _ = bars_of(rows_of(days, minutes=1440), INTERVALS["1M"], newest_ms)
    march_ms = MIDNIGHT_MS + DAY_MS
    assert [(bar.open_time_ms, bar.close_time_ms, bar.trades) for bar in found] == [
        (march_ms, march_ms + 31 * DAY_MS - 1, 62),
        (march_ms + 31 * DAY_MS, march_ms + 61 * DAY_MS - 1, 16),
    ]
