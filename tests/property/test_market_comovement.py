"""Correlation and beta against the standard library: gaps, new and departed symbols, room, restarts."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.candles.batch import MINUTE_MS
from app.market.comovement import MinuteReturns

SYMBOLS = ("BTCUSDT", "AUSDT", "BUSDT")
FIRST = 28_000_000

returns = st.one_of(st.integers(-80, 80).map(lambda eighths: eighths / 8), st.just(math.nan))
minutes = st.lists(
    st.one_of(st.none(), st.dictionaries(st.sampled_from(SYMBOLS), returns, min_size=1)),
    min_size=1,
    max_size=14,
)
"""The returns of each minute by symbol; None for a minute of which nothing came."""


def expected(history: list[dict[str, float] | None], symbol: str, length: int) -> tuple[float, float]:
    window = history[-length:] if len(history) >= length else []
    pairs = [((one or {}).get(SYMBOLS[0], math.nan), (one or {}).get(symbol, math.nan)) for one in window]
    if not pairs or any(math.isnan(value) for pair in pairs for value in pair):
        return math.nan, math.nan
    reference, own = zip(*pairs, strict=True)
    if len(set(reference)) == 1:
        return math.nan, math.nan
    beta = statistics.linear_regression(reference, own).slope
    return (statistics.correlation(reference, own) if len(set(own)) > 1 else math.nan), beta


def fed(history: list[dict[str, float] | None], room: int) -> MinuteReturns:
    known = MinuteReturns(room)
    for at, minute in enumerate(history):
        if minute is not None:
            known.take((FIRST + at) * MINUTE_MS, tuple(minute), np.array(list(minute.values())))
    return known


def check(known: MinuteReturns, history: list[dict[str, float] | None], length: int) -> None:
    found = known.comovement(SYMBOLS[0], (FIRST + len(history) - 1) * MINUTE_MS, length, SYMBOLS)
    for at, symbol in enumerate(SYMBOLS):
        correlation, beta = expected(history, symbol, length)
        assert found.correlation[at] == pytest.approx(correlation, rel=1e-9, abs=1e-9, nan_ok=True), symbol
        assert found.beta[at] == pytest.approx(beta, rel=1e-9, abs=1e-9, nan_ok=True), symbol


@settings(deadline=None)
@given(minutes, st.integers(2, 6))
def test_they_are_those_of_the_standard_library(history: list[dict[str, float] | None], length: int) -> None:
    check(fed(history, 6), history, length)


@settings(deadline=None)
@given(minutes, st.integers(2, 6), st.integers(0, 14))
def test_they_do_not_change_by_a_restart_or_by_more_room(
    history: list[dict[str, float] | None], length: int, at: int
) -> None:
    before = fed(history[:at], 6)
    known = MinuteReturns.restore(before.symbols, *before.pack()).keep(9)
    for number, minute in enumerate(history[at:], at):
        if minute is not None:
            known.take((FIRST + number) * MINUTE_MS, tuple(minute), np.array(list(minute.values())))
    whole = fed(history, 6)
    now_ms = (FIRST + len(history) - 1) * MINUTE_MS
    for reference in SYMBOLS:
        found = known.comovement(reference, now_ms, length, SYMBOLS)
        wanted = whole.comovement(reference, now_ms, length, SYMBOLS)
        np.testing.assert_array_equal(found.correlation, wanted.correlation)
        np.testing.assert_array_equal(found.beta, wanted.beta)


def test_a_symbol_that_moves_as_the_reference_has_correlation_and_beta_one() -> None:
    moves = [0.5, -0.25, 1.0, 0.125]
    history = [{"BTCUSDT": move, "AUSDT": 2 * move, "BUSDT": -move} for move in moves]
    found = fed(list(history), 4).comovement("BTCUSDT", (FIRST + 3) * MINUTE_MS, 4, SYMBOLS)
    assert found.correlation.tolist() == pytest.approx([1.0, 1.0, -1.0])
    assert found.beta.tolist() == pytest.approx([1.0, 2.0, -1.0])


def test_a_forgotten_symbol_is_unknown_again() -> None:
    known = fed([{"BTCUSDT": 1.0, "AUSDT": 1.0}, {"BTCUSDT": 2.0, "AUSDT": 3.0}], 4)
    known.forget(["AUSDT"])
    assert known.symbols == ("BTCUSDT",)
    found = known.comovement("BTCUSDT", (FIRST + 1) * MINUTE_MS, 2, ("AUSDT", "BTCUSDT"))
    assert found.correlation.tolist() == pytest.approx([math.nan, 1.0], nan_ok=True)
