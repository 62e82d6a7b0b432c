"""Rules that change at run time."""

from __future__ import annotations

from dataclasses import replace

from app.rules.files import rule_to_mapping
from app.rules.rule import Rule
from app.rules.updates import update_rules

STEEP = Rule("steep", "price_change_5m > 2", "high")
CALM = Rule("calm", "price_change_5m < 0.1", "info")


def wanted(*rules: Rule) -> list[dict[str, object]]:
    return [rule_to_mapping(rule) for rule in rules]


def test_the_same_rules_again_are_no_change():
    respaced = replace(STEEP, expression="price_change_5m  >  2")
    update = update_rules([STEEP, CALM], wanted(CALM, STEEP))
    assert not update.is_change
    assert update.rules == (CALM, STEEP)
    assert update_rules([STEEP], wanted(respaced)).unversioned == ()


def test_added_changed_and_removed_rules_are_named():
    louder = replace(STEEP, severity="critical")
    update = update_rules([STEEP, CALM], wanted(louder, replace(CALM, rule_type="calmer")))
    assert update.is_change
    assert (update.added, update.changed, update.removed) == (("calmer",), ("steep",), ("calm",))
    assert update.rules[0] is not STEEP
    assert update.unversioned == ()


def test_a_bad_rule_is_refused_and_its_last_good_form_stays():
    bad = wanted(STEEP)[0] | {"expression": "price_change_5m >"}
    unknown = {"rule_type": "other", "expression": "price > 1"}
    update = update_rules([STEEP, CALM], [bad, unknown, *wanted(CALM)])
    assert update.rules == (STEEP, CALM)
    assert not update.is_change
    assert set(update.refused) == {"steep", "other"}
    assert "found the end" in update.refused["steep"]
    assert "severity missing" in update.refused["other"]


def test_a_second_rule_of_one_rule_type_is_refused_and_the_first_counts():
    update = update_rules([STEEP], wanted(replace(STEEP, cooldown_s=60), STEEP))
    assert update.rules == (replace(STEEP, cooldown_s=60),)
    assert "two rules" in update.refused["steep"]


def test_a_change_of_meaning_under_the_same_version_is_pointed_out():
    for change in ({"expression": "price_change_5m > 3"}, {"hold_s": 60}, {"mode": "close"}):
        other = replace(STEEP, **change)
        assert update_rules([STEEP], wanted(other)).unversioned == ("steep",)
        assert update_rules([STEEP], wanted(replace(other, version=2))).unversioned == ()
