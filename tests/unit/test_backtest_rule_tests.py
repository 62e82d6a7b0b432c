"""Tests of rules that users keep beside their rules."""

from __future__ import annotations

import numpy as np
import pytest

from app.backtest.rule_test_candles import candles_of
from app.backtest.rule_tests import load_tests, run_test
from app.errors import RuleError
from app.rules.files import shipped_rules
from app.rules.rule import Rule

START_MS = 1_704_067_200_000
RISING = Rule("rising", "price_change_1m > 1", "high", enabled=False, mode="live")
PIONEER = """
tests:
  - name: a fast rise on volume fires once
    rules: [futures_pioneer_bull]
    start: 2024-01-01T00:00:00Z
    candles:
      TESTUSDT:
        - {minutes: 30, close: 100, quote_volume: 1000}
        - {minutes: 4, close: 103, quote_volume: 9000}
        - {minutes: 4, close: 103, quote_volume: 10}
    expect:
      - {rule: futures_pioneer_bull, symbol: TESTUSDT, at: 2024-01-01T00:31:00Z}
"""


def one(candles: str, expect: str = "[]", more: str = "") -> str:
    return f"tests:\n  - name: it\n    candles: {candles}\n    expect: {expect}\n    {more}"


def test_a_test_passes_when_exactly_the_expected_alerts_come():
    [test] = load_tests(PIONEER, shipped_rules())
    verdict = run_test(test)
    assert verdict.passed
    assert verdict.name == "a fast rise on volume fires once"


def test_a_failing_test_names_what_is_missing_and_what_was_not_expected():
    [test] = load_tests(PIONEER.replace("00:31", "00:30"), shipped_rules())
    verdict = run_test(test)
    assert not verdict.passed
    assert [str(alert) for alert in verdict.missing] == [
        "futures_pioneer_bull TESTUSDT at 2024-01-01T00:30:00.000Z"
    ]
    assert [str(alert) for alert in verdict.unexpected] == [
        "futures_pioneer_bull TESTUSDT at 2024-01-01T00:31:00.000Z"
    ]


def test_a_rule_under_test_is_enabled_and_judged_at_the_close():
    text = one("{A: [{minutes: 2, close: 100, quote_volume: 1}, {minutes: 1, close: 102, quote_volume: 1}]}",
               "[{rule: rising, symbol: A, at: '2024-01-01T00:02:00+00:00'}]")  # fmt: skip
    [test] = load_tests(text, [RISING])
    assert run_test(test).passed


def test_a_test_file_may_bring_its_own_rules_on_top_of_those_given():
    own = "rules:\n  - {rule_type: falling, expression: price_change_1m < -1, severity: high}\n"
    text = one("{A: [{minutes: 2, close: 100, quote_volume: 1}, {minutes: 1, close: 98, quote_volume: 1}]}",
               "[{rule: falling, symbol: A, at: 2024-01-01 00:02:00}]")  # fmt: skip
    [test] = load_tests(own + text, [RISING])
    assert {rule.rule_type for rule in test.rules} == {"rising", "falling"}
    assert run_test(test).passed
    with pytest.raises(RuleError, match="two rules"):
        load_tests(own + text, [Rule("falling", "price > 1", "info")])


def test_stretches_become_candles_that_follow_each_other():
    batch = candles_of(
        {
            "A": [
                {"minutes": 2, "close": 10, "quote_volume": 100},
                {"minutes": 2, "close": 20, "quote_volume": 200},
                {"gap": 3},
                {"open": 20, "high": 25, "low": 15, "close": 16, "quote_volume": 0},
            ],
            "B": [{"gap": 1}, {"minutes": 1, "close": 5, "quote_volume": 1}],
        },
        start_ms=START_MS,
    )
    rows = [batch.symbol_of(row) for row in range(len(batch))]
    assert rows == ["A", "A", "B", "A", "A", "A"]
    of_a = batch.take(np.array(rows) == "A")
    assert ((of_a.open_time_ms - START_MS) // 60_000).tolist() == [0, 1, 2, 3, 7]
    assert of_a.open.tolist() == [10, 10, 10, 15, 20]
    assert of_a.close.tolist() == [10, 10, 15, 20, 16]
    assert of_a.high.tolist() == [10, 10, 15, 20, 25]
    assert of_a.low.tolist() == [10, 10, 10, 15, 15]
    assert of_a.quote_volume.tolist() == [100, 100, 200, 200, 0]


FLAT = "{A: [{minutes: 2, close: 100, quote_volume: 1}]}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tests: [", "not YAML"),
        ("#" * 1_000_001, "limit"),
        ("rules: []", "list `tests:`"),
        ("rules: 5\ntests: []", "must be a list of rules"),
        ("tests: [5]", "test 1 is not a mapping"),
        (one(FLAT, more="expct: []"), "test 'it': unknown key 'expct'; did you mean expect?"),
        (one(FLAT, more="start: 2024-01-01T00:00:30Z"), "whole minute"),
        (one(FLAT, more="start: yesterday"), "'yesterday' is not a time"),
        (one(FLAT, more="start: 5"), "'5' is not a time"),
        (one(FLAT, more="rules: []"), "list of rule_types"),
        (one(FLAT, more="rules: [risng]"), "did you mean rising?"),
        (one(FLAT, "5"), "`expect` must be a list"),
        (one(FLAT, "[{rule: rising}]"), "rule, symbol and at"),
        (one(FLAT, "[{rule: zzz, symbol: A, at: 2024-01-01T00:00:00Z}]"), "unknown rule 'zzz'"),
        (one(FLAT, "[{rule: rising, symbol: B, at: 2024-01-01T00:00:00Z}]"), "'B', which has no candles"),
        (one("[]"), "at least one symbol"),
        (one("{A: []}"), "list of stretches"),
        (one("{A: [{gap: 5}]}"), "there is no candle"),
        (one("{A: [5]}"), "stretch 1 of A is not a mapping"),
        (one("{A: [{minutes: 0, close: 1, quote_volume: 1}]}"), "whole number from 1"),
        (one("{A: [{gap: true}]}"), "whole number from 1"),
        (one("{A: [{minutes: 1, close: 0, quote_volume: 1}]}"), "above 0"),
        (one("{A: [{minutes: 1, close: 1, quote_volume: -1}]}"), "at least 0"),
        (one("{A: [{minutes: 1, close: .nan, quote_volume: 1}]}"), "must be a number"),
        (one("{A: [{minutes: 1, close: 1}]}"), "needs minutes, close, quote_volume"),
        (one("{A: [{open: 1, high: 1, low: 1, close: 2, quote_volume: 1}]}"), "between low and high"),
        (one("{A: [&long {minutes: 99999, close: 1, quote_volume: 1}, *long]}"), "100000"),
    ],
    ids=range(27),
)  # fmt: skip
def test_a_faulty_test_file_is_refused_with_its_reason(text, said):
    with pytest.raises(RuleError) as refused:
        load_tests(text, [RISING])
    assert said in str(refused.value)


def test_all_faulty_tests_of_a_file_are_told_at_once():
    with pytest.raises(RuleError) as refused:
        load_tests("tests: [5, {name: b, expct: []}, {name: c, candles: {}}]", [RISING])
    assert str(refused.value).startswith("3 faults\n")
    assert all(f"test {name}" in str(refused.value) for name in ("1 is not", "'b'", "'c'"))
