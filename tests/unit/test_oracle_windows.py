"""The oracle's windows on cases small enough to compute by hand."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle.windows import MINUTE_MS, MINUTES, Windows, windows_of

START_MS = 1_700_000_040_000


def windows(closes: list[float], volumes: list[float], minutes: list[int] | None = None) -> Windows:
    at = np.array(minutes if minutes is not None else range(len(closes)), dtype=np.int64)
    return windows_of(START_MS + at * MINUTE_MS, np.array(closes), np.array(volumes))


def nulls(count: int) -> list[float]:
    return [math.nan] * count


def test_a_price_change_compares_with_the_close_five_whole_minutes_earlier():
    found = windows([100, 1, 1, 1, 1, 110, 2], [1] * 7)
    np.testing.assert_array_equal(found.price_change["5m"], [*nulls(5), (110 / 100 - 1) * 100, 100])


def test_a_sum_covers_five_minutes_and_is_null_before_there_are_five():
    found = windows([1] * 7, [1, 2, 4, 8, 16, 32, 64])
    np.testing.assert_array_equal(found.volume["5m"], [*nulls(4), 31, 62, 124])


def test_a_missing_minute_makes_null_every_sum_that_holds_it():
    found = windows([1] * 11, [1] * 11, minutes=[0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11])
    np.testing.assert_array_equal(found.volume["5m"], [*nulls(4), 5, *nulls(5), 5, 5])
    assert not found.present[5]


def test_a_missing_minute_makes_null_the_price_changes_that_start_or_end_in_it_and_no_others():
    closes = [1, 1, 1, 2, 1, 1, 1, 4, 1, 1]
    found = windows(closes, [1] * 10, minutes=[0, 1, 3, 4, 5, 6, 7, 9, 10, 11])
    expected = [*nulls(5), 0, 0, math.nan, math.nan, (4 / 2 - 1) * 100, 0, 0]
    np.testing.assert_array_equal(found.price_change["5m"], expected)


def test_the_order_of_the_candles_does_not_matter():
    forward = windows([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6])
    backward = windows([6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], minutes=[5, 4, 3, 2, 1, 0])
    np.testing.assert_array_equal(forward.volume["5m"], backward.volume["5m"])
    np.testing.assert_array_equal(forward.price_change["5m"], backward.price_change["5m"])


def test_a_sum_is_exact_where_floating_point_would_lose_the_small_ones():
    found = windows([1] * 10, [1e16, 1, 1, 1, 1, 1, 1, 1, 1, 1e-300])
    np.testing.assert_array_equal(found.volume["5m"], [*nulls(4), 1e16 + 4, 5, 5, 5, 5, 4])


@given(st.lists(st.floats(min_value=0, max_value=1e12), min_size=1, max_size=80))
def test_every_sum_is_the_correctly_rounded_sum_of_its_minutes(volumes: list[float]):
    found = windows([1] * len(volumes), volumes)
    for name, n in MINUTES.items():
        for last, value in enumerate(found.volume[name].tolist()):
            if last + 1 < n:
                assert math.isnan(value)
            else:
                assert value == float(sum(map(Fraction, volumes[last + 1 - n : last + 1])))
