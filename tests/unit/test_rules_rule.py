"""Rules as data: what is refused, and rule sets as YAML."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from app.database.rule_store import RuleRow
from app.errors import RuleError
from app.rules.evaluation.rulebook import RuleBook
from app.rules.files import (
    RULE_FIELDS,
    RuleMapping,
    dump_rules,
    load_rules,
    rule_from_mapping,
    rule_to_mapping,
    shipped_rules,
)
from app.rules.rule import Rule

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
        ({"expression": "1 < 2"}, "uses no metric"),
        ({"severity": "urgent"}, "critical, high, medium, low, info"),
        ({"cooldown_s": -1}, "cooldown_s"),
        ({"cooldown_s": 1.5}, "cooldown_s"),
        ({"cooldown_s": True}, "cooldown_s"),
        ({"cooldown_s": 10**9}, "cooldown_s"),
        ({"hold_s": "60"}, "hold_s"),
        ({"version": 0}, "version"),
        ({"enabled": 1}, "enabled"),
        ({"shadow": 1}, "shadow"),
        ({"mode": "closed"}, "not live or close"),
        ({"description": None}, "description"),
        ({"description": "x" * 1001}, "description"),
        ({"symbols": ()}, "empty"),
        ({"symbols": ["BTCUSDT"]}, "list of symbols"),
        ({"symbols": ("BTC USDT",)}, "'BTC USDT' is not a symbol"),
        ({"symbols": ("",)}, "is not a symbol"),
        ({"symbols": ("BTC\0USDT",)}, "is not a symbol"),
        ({"description": "a\0b"}, "description contains NUL"),
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
    with pytest.raises(RuleError, match="rule steep: unknown metric") as refused:
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
        True,
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
        ("rules:\n- {rule_type: a, 5: b}", "unknown field '5'"),
        ("rules:\n- {rule_type: a, expression: 'price > x', severity: high}", "rule a: unknown metric"),
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


EVERY_KIND_OF_FAULT = """\
rules:
  - rule_type: fine
    expression: price > 1
    severity: high
  - rule_type: steep
    expression: >-
      price > 1 and rsy_14_5m > 2

      and highest(prce, 15x) = 2
    severity: urgent
    cooldwn_s: 60
    hold_s: -1
  - expression: 'price >'
    severity: low
    severity: high
  - {rule_type: fine, expression: "price > 2 and foo(1) > (2", severity: low}
  - rule_type: escaped
    expression: "price \\x3e 1 and"
    severity: low
"""
PLACES = [
    ("line 7, column 21", "unknown metric `rsy_14_5m`; did you mean `rsi_14_5m`", "rsy_14_5m > 2"),
    ("line 9, column 19", "unknown metric `prce`", "prce, 15x) = 2"),
    ("line 9, column 25", "`highest` needs a duration", "15x) = 2"),
    ("line 9, column 30", "'=' is not in the language; write `==`", "= 2"),
    ("line 10, column 15", "severity 'urgent' is not one of", "urgent"),
    ("line 11, column 5", "unknown field 'cooldwn_s'; did you mean cooldown_s?", "cooldwn_s: 60"),
    ("line 12, column 13", "hold_s -1: must be a whole number", "-1"),
    ("line 13, column 5", "rule_type missing", "expression: 'price >'"),
    ("line 13, column 25", "found the end", "'"),
    ("line 15, column 5", "duplicate key severity", "severity: high"),
    ("line 16, column 17", "two rules have this rule_type", "fine, expression"),
    ("line 16, column 50", "unknown function `foo`", "foo(1) > (2"),
    ("line 16, column 59", "this `(` is never closed", '(2", severity'),
    ("line 18, column 17", "found the end", '"price'),
]


def test_all_faults_of_a_rule_file_are_told_at_once_each_with_its_line_and_a_caret_under_it():
    with pytest.raises(RuleError) as refused:
        load_rules(EVERY_KIND_OF_FAULT)
    counted, *lines = str(refused.value).split("\n")
    assert counted == f"{len(PLACES)} faults"
    told = list(zip(lines[::3], lines[1::3], lines[2::3], strict=True))
    assert len(told) == len(PLACES)
    for (message, source, caret), (place, said, at) in zip(told, PLACES, strict=True):
        assert message.startswith(f"  {place}: rule "), message
        assert said in message
        assert source[caret.index("^") :].startswith(at), (source, caret)


def test_a_long_line_is_shown_around_its_fault():
    long = " and ".join(["price > 1"] * 40)
    with pytest.raises(RuleError) as refused:
        load_rules(f"rules: [{{rule_type: a, severity: low, expression: {long} and prce > 1}}]")
    _, source, caret = str(refused.value).split("\n")
    assert len(source) < 120
    assert source[caret.index("^") :].startswith("prce > 1}]")


def test_a_rule_has_all_its_faults_in_one_error():
    with pytest.raises(RuleError) as refused:
        Rule("steep", "price >", "urgent", cooldown_s=-1)  # type: ignore[arg-type]  # reason: what is tested
    assert all(word in str(refused.value) for word in ("found the end", "urgent", "cooldown_s -1"))
    assert refused.value.position == 7


def test_a_thousand_faults_are_told_in_a_message_of_a_length_that_can_be_read():
    with pytest.raises(RuleError) as refused:
        load_rules("rules: [" + "{a: 1}," * 500 + "]")
    assert len(str(refused.value)) < 20_000
    assert str(refused.value).startswith("1000 faults\n")
    assert str(refused.value).endswith("and 950 more")


def test_a_rule_as_json_and_as_a_row_has_every_field_of_a_rule() -> None:
    assert set(RuleMapping.__annotations__) == set(RULE_FIELDS)
    assert set(RuleRow.__annotations__) == set(RULE_FIELDS)
