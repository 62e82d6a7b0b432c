"""Why a rule fired, or what was missing."""

from __future__ import annotations

import json

from app.rules.explain import explain, explain_condition, values_of
from app.rules.files import shipped_rules
from app.rules.language.parser import parse_condition
from app.rules.rule import Rule
from tests.support.metric_rows import Row, metrics_batch


def explained(expression: str, *minutes: dict[str, float | None]):
    return explain(Rule("rule", expression, "high"), minutes)


def test_every_comparison_tells_its_value_threshold_and_margin():
    clause = explained("price_change_5m > 1 and volume_5m < 3 * base_volume_5m", {
        "price_change_5m": 1.5, "quote_volume_5m": 500.0, "base_volume_5m": 100.0
    })  # fmt: skip
    assert clause.truth is False
    rising, volume = clause.parts
    assert (rising.truth, rising.value, rising.threshold, rising.margin) == (True, 1.5, 1.0, 0.5)
    assert (volume.truth, volume.value, volume.threshold, volume.margin) == (False, 500.0, 300.0, -200.0)
    assert clause.failing() == [volume]


def test_a_margin_is_negative_exactly_when_a_comparison_misses():
    for operator, at_2, at_3 in [
        (">", -1, 0),
        (">=", -1, 0),
        ("<", 1, 0),
        ("<=", 1, 0),
        ("==", -1, 0),
        ("!=", 1, 0),
    ]:
        assert explained(f"price {operator} 3", {"close_1m": 2.0}).margin == at_2
        assert explained(f"price {operator} 3", {"close_1m": 3.0}).margin == at_3


def test_a_null_says_what_is_missing():
    assert "rsi_14_5m is null" in explained("rsi_14_5m > 70", {}).null_because
    assert (
        "rsi_14_5m is null"
        in explained("price > 1 and max(rsi_14_5m, 2) > 70", {"close_1m": 2.0}).null_because
    )
    assert "low_1m is 0" in explained("price / low > 70", {"close_1m": 2.0, "low_1m": 0.0}).null_because
    assert (
        "1 minute earlier was not evaluated" in explained("prev(price) > 1", {"close_1m": 2.0}).null_because
    )
    twice = explained("prev(prev(price)) > 1", {"close_1m": None}, {"close_1m": 1.0}, {"close_1m": 1.0})
    assert "close_1m is null 2 minutes earlier" in twice.null_because
    clause = explained("price > 1 or rsi_14_5m > 70", {"close_1m": 2.0})
    assert clause.truth is True
    assert clause.null_because == ""


def test_a_crossing_shows_the_minute_before_and_now():
    before, now = {"close_1m": 9.0, "ema_20_15m": 10.0}, {"close_1m": 11.0, "ema_20_15m": 10.0}
    clause = explained("crosses_above(price, ema_20_15m)", before, now)
    assert clause.truth is True
    assert [(part.text, part.truth) for part in clause.parts] == [
        ("prev(close_1m) <= prev(ema_20_15m)", True),
        ("close_1m > ema_20_15m", True),
    ]
    assert explained("crosses_above(price, ema_20_15m)", now).truth is None
    assert explained("crosses_below(price, ema_20_15m)", now, before).truth is True
    assert explained("not crosses_below(price, ema_20_15m)", before, now).truth is True


def test_a_negation_that_fails_is_named_itself():
    clause = explained("not price > 1", {"close_1m": 2.0})
    assert [part.text for part in clause.failing()] == ["not close_1m > 1"]


def test_the_tree_reads_as_text_and_as_json():
    clause = explained("price > 1 and (rsi_14_5m > 70 or not low > 3)", {"close_1m": 2.0, "low_1m": 4.0})
    lines = clause.lines()
    assert lines[0].startswith(
        "null  close_1m > 1 and (rsi_14_5m > 70 or not low_1m > 3)   [rsi_14_5m is null"
    )
    assert lines[1] == "  true  close_1m > 1   [2 against 1, margin +1]"
    assert lines[-1] == "      true  low_1m > 3   [4 against 3, margin +1]"
    tree = json.loads(json.dumps(clause.as_dict(), allow_nan=False))
    assert tree["parts"][0] == {
        "text": "close_1m > 1",
        "truth": True,
        "value": 2.0,
        "threshold": 1.0,
        "margin": 1.0,
    }
    assert tree["parts"][1]["parts"][0]["null_because"].startswith("rsi_14_5m")


def test_what_one_symbol_cannot_tell_is_null():
    clause = explain_condition(parse_condition("rank(price) < 3"), [{"close_1m": 2.0}])
    assert clause.truth is None
    assert clause.null_because == "rank(close_1m) is null"


def test_every_shipped_rule_can_be_explained_without_any_metrics():
    batch = metrics_batch([Row("A", 0)])
    for rule in shipped_rules():
        clause = explain(rule, [values_of(batch, 0)])
        assert clause.truth is None
        assert clause.null_because
        assert clause.failing()
