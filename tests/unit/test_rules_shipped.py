"""Every shipped rule at every one of its thresholds, from the table of the specification."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.files import shipped_rules
from tests.support.metric_rows import Row, metrics_batch

RULES = {rule.rule_type: rule for rule in shipped_rules()}
STEP = 1e-9
"""Relative distance that counts as just inside or just outside."""

C5M, C15M, C1H, C8H, C1D = (f"price_change_{timeframe}" for timeframe in ("5m", "15m", "1h", "8h", "1d"))
V5M, V15M, V1H, V8H, V1D = (f"quote_volume_{timeframe}" for timeframe in ("5m", "15m", "1h", "8h", "1d"))

BIG_60_VOLUMES = {V1H: 1e6, V8H: 5.5e6, V1D: 10e6}
BIG_5_VOLUMES = {V5M: 300e3, V15M: 600e3, V1H: 1.5e6, V8H: 10e6}
BIG_15_VOLUMES = {V15M: 500e3, V1H: 1.1e6, V8H: 9.9e6}
HUNTER_VOLUMES = {V5M: 100.0, V15M: 150.0, V1H: 500.0}

# A row at which the bullish form of each pair fires; its thresholds: column, value, side on which it fires.
# The bearish form has the signs of the price changes, and so their sides, turned round.
PAIRS = [
    (
        ("futures_big_bull_60", "futures_big_bear_60"),
        {C1H: 2.0, C8H: 4.0, C1D: 8.0, **BIG_60_VOLUMES},
        [(C1H, 1.6, +1), (C1D, 15.0, -1), (C8H, 2.0, +1), (C1D, 4.0, +1)],
        [(V8H, 5e6, +1), (V8H, 6e6, -1), (V1D, 16e6, -1), (V1H, 5.5e6 / 6, +1)],
    ),
    (
        ("futures_pioneer_bull", "futures_pioneer_bear"),
        {C5M: 2.0, C15M: 2.0, V5M: 100.0, V15M: 150.0},
        [(C5M, 1.0, +1), (C15M, 1.0, +1), (C15M, 6.0, -1)],
        [(V15M, 200.0, -1)],
    ),
    (
        ("futures_5_big_bull", "futures_5_big_bear"),
        {C5M: 1.0, C15M: 2.0, C1H: 3.0, C1D: 5.0, **BIG_5_VOLUMES},
        [(C5M, 0.6, +1), (C1D, 15.0, -1), (C15M, 1.0, +1), (C1H, 2.0, +1)],
        [(V1H, 1e6, +1), (V15M, 900e3, -1), (V1H, 1.8e6, -1), (V8H, 19.8e6, -1)],
    ),
    (
        ("futures_15_big_bull", "futures_15_big_bear"),
        {C15M: 2.0, C1H: 3.0, C8H: 4.0, C1D: 5.0, **BIG_15_VOLUMES},
        [(C15M, 1.0, +1), (C1D, 15.0, -1), (C1H, 2.0, +1), (C8H, 3.0, +1)],
        [(V15M, 400e3, +1), (V1H, 1e6, +1), (V1H, 1.5e6, -1), (V8H, 13e6, -1)],
    ),
    (
        ("futures_top_hunter", "futures_bottom_hunter"),
        {C1H: 2.0, C15M: 1.0, C5M: -1.0, **HUNTER_VOLUMES},
        [(C1H, 0.7, +1), (C15M, 0.6, +1), (C5M, -0.5, -1)],
        [(V15M, 200.0, -1), (V1H, 800.0, -1)],
    ),
    (
        ("bull_whale", "bear_whale"),
        {"volume_ratio_5m": 4.0, C5M: 3.0},
        [(C5M, 2.0, +1)],
        [("volume_ratio_5m", 3.0, +1)],
    ),
    (
        ("bull_volume", "bear_volume"),
        {"surge_ratio_5m": 3.0, "surge_side_5m": 1.0},
        [],
        [("surge_ratio_5m", 2.5, +1)],
    ),
]
SIGNED = (C5M, C15M, C1H, C8H, C1D, "surge_side_5m")


def _mirrored(values: dict[str, float]) -> dict[str, float]:
    return {name: -value if name in SIGNED else value for name, value in values.items()}


def _forms():
    for (bull, bear), row, signed, unsigned in PAIRS:
        yield bull, row, [*signed, *unsigned]
        yield bear, _mirrored(row), [*((c, -value, -side) for c, value, side in signed), *unsigned]


FIRING = {rule_type: row for rule_type, row, _ in _forms()}
THRESHOLDS = [(rule_type, *threshold) for rule_type, _, thresholds in _forms() for threshold in thresholds]


def fires(rule_type: str, *minutes: dict[str, float]) -> bool:
    """Whether the rule is true at the last of these consecutive closed minutes."""
    evaluator = Evaluator(RuleBook.compile([replace(RULES[rule_type], enabled=True)], "close"))
    matches = [evaluator.evaluate(metrics_batch([Row("S", at, row)])) for at, row in enumerate(minutes)]
    return len(matches[-1]) == 1


def test_eighteen_rules_are_shipped_and_the_first_twelve_are_enabled():
    enabled = [rule.enabled for rule in shipped_rules()]
    assert enabled == [True] * 12 + [False] * 6
    tested = {*FIRING, *(f"ichimoku_{side}" for side in ("bull", "bear")), "flat_1m", "flat_8h"}
    assert set(RULES) == tested


def test_the_shipped_rules_have_the_severities_of_the_specification_and_five_minutes_of_cooldown():
    assert {rule.cooldown_s for rule in RULES.values()} == {300}
    assert {rule.version for rule in RULES.values()} == {1}
    by_severity = {
        severity: {name for name, rule in RULES.items() if rule.severity == severity}
        for severity in ("critical", "high", "medium", "info")
    }
    assert by_severity["critical"] == {
        "futures_big_bull_60", "futures_big_bear_60", "futures_pioneer_bull", "futures_pioneer_bear"
    }  # fmt: skip
    assert by_severity["medium"] == {
        "futures_bottom_hunter",
        "futures_top_hunter",
        "bull_volume",
        "bear_volume",
    }
    assert by_severity["info"] == {"flat_1m", "flat_8h"}
    assert len(by_severity["high"]) == 8


@pytest.mark.parametrize("rule_type", FIRING)
def test_a_shipped_rule_fires_well_inside_its_thresholds(rule_type):
    assert fires(rule_type, FIRING[rule_type])


@pytest.mark.parametrize(("rule_type", "column", "value", "side"), THRESHOLDS)
def test_a_shipped_rule_fires_just_inside_a_threshold_and_neither_at_it_nor_just_outside(
    rule_type, column, value, side
):
    step = side * STEP * abs(value)
    row = FIRING[rule_type]
    assert fires(rule_type, row | {column: value + step})
    assert not fires(rule_type, row | {column: value})
    assert not fires(rule_type, row | {column: value - step})


@pytest.mark.parametrize(
    ("rule_type", "column", "value"),
    [
        ("futures_big_bull_60", V1H, 500e3),
        ("futures_big_bear_60", V1H, 500e3),
        ("futures_5_big_bull", V5M, 100e3),
        ("futures_5_big_bear", V5M, 100e3),
    ],
)
def test_a_floor_of_volume_that_the_other_terms_imply_holds_as_well(rule_type, column, value):
    """6 * v1h > v8h > 5,000,000 leaves no room near v1h = 500,000, nor v5m > v1h / 6 near v5m = 100,000."""
    assert not fires(rule_type, FIRING[rule_type] | {column: value})


@pytest.mark.parametrize(
    ("rule_type", "column"), [(rule_type, column) for rule_type, row in FIRING.items() for column in row]
)
def test_a_shipped_rule_never_fires_while_one_of_its_metrics_is_null(rule_type, column):
    assert not fires(rule_type, FIRING[rule_type] | {column: float("nan")})


@pytest.mark.parametrize("side", [0.0, -1.0])
def test_a_surge_of_volume_without_the_matching_run_of_closes_fires_nothing(side):
    assert not fires("bull_volume", {"surge_ratio_5m": 3.0, "surge_side_5m": side})
    assert not fires("bear_volume", {"surge_ratio_5m": 3.0, "surge_side_5m": -side})


def _cloud(close: float, span_a: float, span_b: float) -> dict[str, float]:
    return {"close_15m": close, "ichimoku_span_a_15m": span_a, "ichimoku_span_b_15m": span_b}


@pytest.mark.parametrize(("span_a", "span_b"), [(100.0, 90.0), (90.0, 100.0)])
def test_ichimoku_bull_fires_when_the_close_crosses_the_upper_side_of_the_cloud(span_a, span_b):
    below, at, above = (_cloud(close, span_a, span_b) for close in (99.0, 100.0, 100.0 + 1e-7))
    assert fires("ichimoku_bull", below, above)
    assert fires("ichimoku_bull", at, above)
    assert not fires("ichimoku_bull", below, at)
    assert not fires("ichimoku_bull", above, _cloud(101.0, span_a, span_b))
    assert not fires("ichimoku_bull", above)


@pytest.mark.parametrize(("span_a", "span_b"), [(100.0, 110.0), (110.0, 100.0)])
def test_ichimoku_bear_fires_when_the_close_crosses_the_lower_side_of_the_cloud(span_a, span_b):
    above, at, below = (_cloud(close, span_a, span_b) for close in (101.0, 100.0, 100.0 - 1e-7))
    assert fires("ichimoku_bear", above, below)
    assert fires("ichimoku_bear", at, below)
    assert not fires("ichimoku_bear", above, at)
    assert not fires("ichimoku_bear", below, _cloud(99.0, span_a, span_b))
    assert not fires("ichimoku_bear", below)


@pytest.mark.parametrize("column", ["close_15m", "ichimoku_span_a_15m", "ichimoku_span_b_15m"])
@pytest.mark.parametrize(
    ("rule_type", "before", "now"), [("ichimoku_bull", 90, 120), ("ichimoku_bear", 120, 90)]
)
def test_an_ichimoku_rule_never_fires_while_one_of_its_metrics_is_null(rule_type, before, now, column):
    first, second = _cloud(before, 100, 110), _cloud(now, 100, 110)
    assert fires(rule_type, first, second)
    assert not fires(rule_type, first | {column: float("nan")}, second)
    assert not fires(rule_type, first, second | {column: float("nan")})


@pytest.mark.parametrize(
    ("rule_type", "window", "limit_pct"), [("flat_1m", "10m", 0.1), ("flat_8h", "8h", 2.0)]
)
def test_a_flat_rule_fires_on_entering_the_state_only(rule_type, window, limit_pct):
    def minute(range_pct: float) -> dict[str, float]:
        return {f"high_{window}": 100.0 + range_pct, f"low_{window}": 100.0}

    wide, inside, outside = (
        minute(limit_pct * 2),
        minute(limit_pct * 0.999_999),
        minute(limit_pct * 1.000_001),
    )
    assert fires(rule_type, wide, inside)
    assert fires(rule_type, outside, inside)
    assert not fires(rule_type, wide, outside)
    assert not fires(rule_type, inside, inside)
    assert not fires(rule_type, inside)
    for column in wide:
        assert not fires(rule_type, wide, inside | {column: float("nan")})
        assert not fires(rule_type, wide | {column: float("nan")}, inside)
