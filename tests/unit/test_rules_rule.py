"""Rules as data: what is refused, and rule sets as YAML."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from app.errors import RuleError
from app.rules.files import dump_rules, load_rules, rule_from_mapping, rule_to_mapping
from app.rules.rule import Rule
from app.rules.rulebook import RuleBook
from app.rules.shipped import shipped_rules

RULE = Rule("steep", "price_change_5m > 2", "high")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rule_type": "Steep"}, "lower-case"),
        ({"rule_type": ""}, "lower-case"),
        ({"rule_type": "5_big"}, "a letter first"),
        ({"rule_type": "a" * 65}, "64"),
        ({"rule_type": None}, "rule_type"),
        ({"expression": 5}, "must be text"),
        ({"expression": "price >"}, "found the end"),
        ({"expression": "1 < 2"}, "looks at no metric"),
        ({"severity": "urgent"}, "critical, high, medium, low, info"),
        ({"cooldown_s": -1}, "cooldown_s"),
        ({"cooldown_s": 1.5}, "cooldown_s"),
        ({"cooldown_s": True}, "cooldown_s"),
        ({"cooldown_s": 10**9}, "cooldown_s"),
        ({"hold_s": "60"}, "hold_s"),
        ({"version": 0}, "version"),
        ({"enabled": 1}, "enabled"),
        ({"mode": "closed"}, "neither live nor close"),
        ({"description": None}, "description"),
        ({"description": "x" * 1001}, "description"),
        ({"symbols": ()}, "empty"),
        ({"symbols": ["BTCUSDT"]}, "list of symbols"),
        ({"symbols": ("BTC USDT",)}, "'BTC USDT' is not a symbol"),
        ({"symbols": ("",)}, "is not a symbol"),
        ({"symbols": ("BTC\0USDT",)}, "is not a symbol"),
        ({"description": "a\0b"}, "description has a NUL"),
        ({"description": "a\ud800b"}, "half of a surrogate pair"),
        ({"symbols": (5,)}, "list of symbols"),
        ({"symbols": ("A",) * 5_001}, "the limit is 5000"),
    ],
)
def test_a_faulty_rule_is_refused_with_the_field_at_fault(change, said):
    with pytest.raises(RuleError, match="rule") as refused:
        replace(RULE, **change)
    assert said in str(refused.value)


def test_a_fault_in_a_rules_expression_keeps_its_position():
    with pytest.raises(RuleError, match="rule steep: there is no metric") as refused:
        replace(RULE, expression="price > 1 and nothing_here > 2")
    assert refused.value.position == 14


def test_two_rules_of_one_rule_type_are_refused_together():
    with pytest.raises(RuleError, match="two rules"):
        RuleBook.compile([RULE, replace(RULE, severity="info")], "live")
    with pytest.raises(RuleError, match="two rules"):
        load_rules(dump_rules([RULE, RULE]))


def test_a_disabled_rule_is_not_part_of_a_book():
    disabled = replace(RULE, rule_type="other", enabled=False)
    assert RuleBook.compile([disabled, RULE], "live").rules == (RULE,)


def test_rules_survive_yaml_with_every_field():
    full = Rule(
        "full",
        "price > 1",
        "low",
        60,
        "Ωmega: a # and 'quotes'",
        3,
        False,
        "close",
        ("BTCUSDT", "1INCHUSDT"),
        120,
    )
    assert {field.name for field in fields(Rule)} == set(rule_to_mapping(full))
    rules = (full, RULE, *shipped_rules())
    assert load_rules(dump_rules(rules)) == rules
    assert rule_to_mapping(RULE) == {
        "rule_type": "steep",
        "expression": "price_change_5m > 2",
        "severity": "high",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [", "not YAML"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        ("", "needs a list `rules:`"),
        ("rules: 5", "needs a list `rules:`"),
        ("rules: [5]", "needs a list `rules:`"),
        ("- rule_type: a", "needs a list `rules:`"),
        ("rules:\n- rule_type: a", "rule a: expression, severity missing"),
        ("rules:\n- {rule_type: a, expresion: b}", "did you mean expression?"),
        ("rules:\n- {rule_type: a, 5: b}", "there is no field '5'"),
        ("rules:\n- {rule_type: a, expression: 'price > x', severity: high}", "rule a: there is no metric"),
        (
            "rules:\n- {rule_type: a, expression: 'price > 1', severity: high, symbols: BTC}",
            "list of symbols",
        ),
        ("rules: " + "[" * 5000, "not YAML"),
        ("#" * 1_000_001, "limit"),
        ("rules: [" + "{}," * 5001 + "]", "limit"),
    ],
    ids=range(14),
)
def test_a_faulty_rule_file_is_refused_with_its_reason(text, said):
    with pytest.raises(RuleError) as refused:
        load_rules(text)
    assert said in str(refused.value)


def test_a_mapping_from_json_gives_the_same_rule():
    mapping = {
        "rule_type": "a",
        "expression": "price > 1",
        "severity": "high",
        "symbols": ["BTCUSDT"],
        "mode": None,
    }
    assert rule_from_mapping(mapping) == Rule("a", "price > 1", "high", symbols=("BTCUSDT",))
