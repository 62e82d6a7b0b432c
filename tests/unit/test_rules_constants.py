"""Constants where metrics usually stand: a level to cross, a bound, a part that never changes."""

from __future__ import annotations

import math

import pytest
import yaml

from app.backtest.backtest import Backtest
from app.backtest.explain_at import explain_at
from app.backtest.rule_test_candles import candles_of
from app.backtest.rule_tests import load_tests, run_test
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.explain import explain, values_of
from app.rules.language.parser import parse_condition
from app.rules.rule import Rule
from app.rules.screen import screen
from tests.support.metric_rows import START_MS, Row, metrics_batch

VALUES = (1.0, 3.0, 3.0, math.nan, 1.0, 3.0, 2.0, 0.0)
"""Of price_change_5m, minute by minute."""

EXPRESSIONS = {
    "crosses_above(price_change_5m, 2)": {1, 5},
    "crosses_below(price_change_5m, 2)": {7},
    "crosses_above(2, price_change_5m)": {7},
    "crosses_below(2, price_change_5m)": {1, 5},
    "crosses_above(price_change_5m, 1 + 1)": {1, 5},
    "crosses_above(price_change_5m, -2 * -1)": {1, 5},
    "crosses_above(price_change_5m, prev(2))": {1, 5},
    "crosses_above(price_change_5m, max(1, 2))": {1, 5},
    "not crosses_above(price_change_5m, 2) and price_change_5m > 2": {2},
    "price_change_5m > prev(2)": {1, 2, 5},
    "price_change_5m > prev(prev(4) / 2)": {1, 2, 5},
    "price_change_5m > abs(prev(-2))": {1, 2, 5},
    "price_change_5m > prev(prev(2) + 0 * price_change_5m)": {1, 2, 5},
    "crosses_above(3, 2) or price_change_5m > 2": {1, 2, 5},
    "1 < 2 and price_change_5m > 2": {1, 2, 5},
    "price_change_5m > 2 and not 1 > 2": {1, 2, 5},
    "2 < 1 or price_change_5m > 2": {1, 2, 5},
    "price_change_5m > 0 and 2 < 1": set(),
    "price_change_5m > 1 / (1 - 1)": set(),
    "crosses_above(price_change_5m, 1 / (1 - 1))": set(),
    "price_change_5m > -1e308 * 10": {0, 1, 2, 4, 5, 6, 7},
}


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("together", [True, False], ids=["in one frame", "minute by minute"])
@pytest.mark.parametrize("hold_s", [0, 1])
def test_a_rule_with_a_constant_where_a_metric_may_stand_is_evaluated(expression, together, hold_s):
    evaluator = Evaluator(RuleBook.compile([Rule("r", expression, "high", hold_s=hold_s)], "close"))
    rows = [Row("A", minute, {"price_change_5m": value}) for minute, value in enumerate(VALUES)]
    found = []
    for frame in [rows] if together else [[row] for row in rows]:
        batch = metrics_batch(frame)
        found += [int(batch.open_time_ms[row] - START_MS) // 60_000 for row in evaluator.evaluate(batch).row]
    if hold_s:
        assert set(found) <= EXPRESSIONS[expression]
    else:
        assert found == sorted(EXPRESSIONS[expression])


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_same_rule_is_explained_with_the_same_truth(expression):
    rows = [Row("A", minute, {"price_change_5m": value}) for minute, value in enumerate(VALUES)]
    batch = metrics_batch(rows)
    history = [values_of(batch, row) for row in range(len(batch))]
    true = {at for at in range(len(rows)) if explain(Rule("r", expression, "high"), history[: at + 1]).truth}
    assert true == EXPRESSIONS[expression]


def test_a_crossing_of_a_level_plays_in_backtest_rule_tests_and_explanations():
    rule = Rule("jump", "crosses_above(price, 101)", "high")
    stretches = [{"minutes": 5, "close": close, "quote_volume": 10} for close in (100, 103)]
    candles = candles_of({"AUSDT": stretches}, START_MS)
    run = Backtest(RuleBook.compile([rule], "close"))
    assert len(run.feed(candles).entries) == 1
    assert explain_at(rule, candles, run.entries[0].open_time_ms).truth
    expect = [{"rule": "jump", "symbol": "AUSDT", "at": "2024-01-01T00:06:00Z"}]
    test = {"name": "once", "candles": {"AUSDT": stretches}, "expect": expect}
    assert run_test(load_tests(yaml.safe_dump({"tests": [test]}), [rule])[0]).passed


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("1 < 2", [0, 1]),
        ("2 < 1", []),
        ("rank(price) < 1 + 1", [1]),
        ("price > mean(2 * price) / 2", [1]),
        ("1 / (1 - 1) > 0 or price > 1", [0, 1]),
    ],
)
def test_a_query_may_hold_constants_anywhere(where, rows):
    batch = metrics_batch([Row("A", 0, {"close_1m": 2.0}), Row("B", 0, {"close_1m": 4.0})])
    assert screen(batch, where, sort="3").tolist() == rows
    assert screen(batch.take(slice(0)), where).tolist() == []


def test_prev_of_a_constant_is_the_constant_in_every_minute():
    assert parse_condition("price > prev(3)") != parse_condition("price > 3")
    evaluator = Evaluator(RuleBook.compile([Rule("r", "price > prev(3)", "high")], "close"))
    assert len(evaluator.evaluate(metrics_batch([Row("A", 0, {"close_1m": 4.0})]))) == 1
