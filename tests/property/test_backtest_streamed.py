"""Figures of a backtest that streams equal those of the whole history at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backtest import tally
from app.backtest.backtest import Entry, Step
from app.backtest.forward import ForwardReturns
from app.backtest.outcomes import HORIZONS
from app.backtest.prices import ClosePrices
from app.candle_files.reader import by_minutes
from app.candles.batch import MINUTE_MS, CandleBatch, concatenate
from app.cli.candles.kept_closes import KeptCloses
from tests.support.candle_history import START_MS, candles
from tests.support.whole_outcomes import WholeHistory, whole_outcomes

BEFORE_MAY = 13 * 1440 + 700
"""Minutes from START_MS: twelve hours before the next month."""


def market(rng: np.random.Generator, symbols: int, minutes: int, missing: float) -> CandleBatch:
    walks = 100 * np.exp(np.cumsum(rng.normal(0, 0.001, (symbols, minutes)), axis=1))
    of_symbols = [candles(walk, f"S{at}", start=BEFORE_MAY) for at, walk in enumerate(walks)]
    whole = concatenate(of_symbols)
    whole = whole.take(rng.random(len(whole)) >= missing)
    return whole.take(np.argsort(whole.open_time_ms, kind="stable"))


def alerts(rng: np.random.Generator, history: CandleBatch, many: int) -> list[Entry]:
    """Of two rules, the second only late, at minutes that their symbols have, in order of time."""
    late = len(history) // 3
    found = []
    for rule_type, first in (("early", 0), ("late", late)):
        for row in rng.choice(np.arange(first, len(history)), many).tolist():
            symbol = history.symbols[history.symbol_index[row]]
            found.append(Entry(int(history.open_time_ms[row]), rule_type, symbol, ""))
    return sorted(set(found))


def streamed(history: CandleBatch, entries: list[Entry], rows: int, awake_ms: dict[str, int]) -> Any:
    kept = KeptCloses()
    returns = ForwardReturns(ClosePrices(kept, memory_closes=0))
    for part in by_minutes(history, rows):
        first, last = int(part.open_time_ms[0]), int(part.open_time_ms[-1])
        inside = [entry for entry in entries if first <= entry.open_time_ms <= last]
        returns.take(Step(part, inside, np.zeros(len(inside))))
    found = {outcome.rule_type: outcome.as_dict() for outcome in returns.outcomes(awake_ms)}
    kept.close()
    return found


def assert_same(found: Any, expected: Any, where: str = "") -> None:
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert_same(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for at, value in enumerate(expected):
            assert_same(found[at], value, f"{where}[{at}]")
    elif isinstance(expected, tuple):
        assert expected[0] <= found <= expected[1], where
    elif isinstance(expected, float):
        assert math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9), (where, found, expected)
    else:
        assert found == expected, where


@given(
    seed=st.integers(0, 2**32 - 1),
    symbols=st.integers(1, 4),
    minutes=st.one_of(st.integers(1, 300), st.integers(1_500, 6_000)),
    missing=st.sampled_from([0.0, 0.1, 0.9]),
    many=st.sampled_from([0, 1, 4, 12]),
    rows=st.sampled_from([1_000, 10_000]),
)
def test_a_streamed_backtest_has_the_figures_of_the_whole_history(
    seed, symbols, minutes, missing, many, rows
):
    rng = np.random.default_rng(seed)
    history = market(rng, symbols, minutes, missing)
    if not len(history):
        return
    entries = alerts(rng, history, many)
    awake_ms = {"early": int(history.open_time_ms[0]), "late": int(history.open_time_ms[len(history) // 3])}
    found = streamed(history, entries, rows, awake_ms)
    assert_same(found, whole_outcomes(WholeHistory(history), entries, awake_ms, HORIZONS))


def test_alerts_beyond_the_sample_are_in_every_sum_and_the_sample_is_fair(monkeypatch):
    monkeypatch.setattr(tally.Sample.__init__, "__defaults__", (200,))
    rng = np.random.default_rng(2)
    history = market(rng, 3, 3_000, 0.0)
    entries = alerts(rng, history, 1_500)
    awake_ms = {"early": START_MS + BEFORE_MAY * MINUTE_MS}
    found = streamed(history, entries, 1_000, awake_ms)
    expected = whole_outcomes(WholeHistory(history), entries[:0], awake_ms, HORIZONS)
    assert expected["early"]["fires"] == 0
    by_rule = {rule: [entry for entry in entries if entry.rule_type == rule] for rule in ("early", "late")}
    whole = WholeHistory(history)
    for rule, own in by_rule.items():
        assert found[rule]["fires"] == len(own) > 1_000
        assert found[rule]["sampled"] == 200
        for name, minutes in HORIZONS.items():
            at = [
                (entry.open_time_ms // MINUTE_MS - whole.first, whole.column[entry.symbol]) for entry in own
            ]
            values = whole.returns_pct(minutes)[tuple(np.array(at).T)]
            known = values[~np.isnan(values)]
            after = found[rule]["after"][name]
            assert after["known"] == len(known)
            assert after["mean_pct"] == pytest.approx(known.mean())
            assert after["hit_pct"] == pytest.approx((known > 0).mean() * 100)
            below = (known < after["median_pct"]).mean()
            assert 0.35 < below < 0.65
        assert sum(month["fires"] for month in found[rule]["months"]) == len(own)
