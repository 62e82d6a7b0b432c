"""The statistics over all symbols against their definitions, one symbol at a time in plain Python."""

from __future__ import annotations

import math
import statistics as plain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.rules.market.statistics import mean, median, of_symbol, pct_rank, rank, share

values = st.lists(
    st.one_of(st.just(math.nan), st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)), max_size=12
)


def same(found: np.ndarray, wanted: list[float]) -> None:
    assert found.tolist() == pytest.approx(wanted, rel=1e-12, abs=1e-12, nan_ok=True)


@settings(deadline=None)
@given(values)
def test_ranks_count_the_larger_ones(given_values: list[float]) -> None:
    known = [value for value in given_values if not math.isnan(value)]
    wanted = [
        math.nan if math.isnan(value) else 1.0 + sum(other > value for other in known)
        for value in given_values
    ]
    same(rank(np.array(given_values)), wanted)


@settings(deadline=None)
@given(values)
def test_percent_ranks_count_the_smaller_others_and_half_of_the_equal_ones(given_values: list[float]) -> None:
    def wanted(at: int) -> float:
        value = given_values[at]
        others = [other for i, other in enumerate(given_values) if i != at and not math.isnan(other)]
        if math.isnan(value) or not others:
            return math.nan
        below = sum(1.0 if other < value else 0.5 if other == value else 0.0 for other in others)
        return below / len(others)

    same(pct_rank(np.array(given_values)), [wanted(at) for at in range(len(given_values))])


@settings(deadline=None)
@given(values)
def test_mean_and_median_are_those_of_the_known_and_null_below_two(given_values: list[float]) -> None:
    known = [value for value in given_values if not math.isnan(value)]
    array = np.array(given_values)
    for function, wanted in ((mean, plain.fmean), (median, plain.median)):
        value = wanted(known) if len(known) >= 2 else math.nan
        assert function(array).tolist() == pytest.approx(
            [value] * len(given_values), rel=1e-9, abs=1e-9, nan_ok=True
        )


@settings(deadline=None)
@given(st.lists(st.sampled_from([True, False, None]), max_size=12))
def test_a_share_is_of_those_for_which_the_condition_is_known(truths: list[bool | None]) -> None:
    known = [truth for truth in truths if truth is not None]
    wanted = sum(known) / len(known) if len(known) >= 2 else math.nan
    found = share(np.array([t is True for t in truths]), np.array([t is False for t in truths]))
    same(found, [wanted] * len(truths))


@settings(deadline=None)
@given(values, st.integers(0, 12))
def test_the_value_of_one_symbol_is_that_of_its_row_for_all(given_values: list[float], at: int) -> None:
    is_symbol = np.array([i == at for i in range(len(given_values))])
    wanted = given_values[at] if at < len(given_values) else math.nan
    same(of_symbol(np.array(given_values), is_symbol), [wanted] * len(given_values))
