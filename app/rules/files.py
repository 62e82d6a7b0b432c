"""Rule sets as YAML text.

rules:
  - rule_type: my_rule
    expression: price_change_5m > 2 and volume_5m > 100k
    severity: high
    cooldown_s: 600
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import yaml

from app.errors import RuleError
from app.rules.names import nearest
from app.rules.rule import Rule

MAX_LENGTH = 1_000_000
MAX_RULES = 5_000
RULE_FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Rule))
_DEFAULTS = {field.name: field.default for field in fields(Rule)}
_NEEDED = ("rule_type", "expression", "severity")


def rule_from_mapping(values: Mapping[str, Any]) -> Rule:
    """A rule from parsed YAML or JSON; unknown and missing keys are refused. Raises RuleError."""
    name = f"rule {str(values.get('rule_type', '(without rule_type)'))[:80]}"
    for key in values:
        if key not in RULE_FIELDS:
            guesses = nearest(str(key), RULE_FIELDS)
            advice = f"did you mean {guesses[0]}?" if guesses else f"there are {', '.join(RULE_FIELDS)}"
            raise RuleError(f"{name}: there is no field {str(key)[:80]!r}; {advice}")
    if missing := [key for key in _NEEDED if key not in values]:
        raise RuleError(f"{name}: {', '.join(missing)} missing")
    given = dict(values)
    if isinstance(given.get("symbols"), list):
        given["symbols"] = tuple(given["symbols"])
    return Rule(**given)


def rule_to_mapping(rule: Rule) -> dict[str, Any]:
    """What `rule_from_mapping` reads; fields at their default are left out."""
    values = {name: getattr(rule, name) for name in RULE_FIELDS}
    mapping = {name: value for name, value in values.items() if name in _NEEDED or value != _DEFAULTS[name]}
    if rule.symbols is not None:
        mapping["symbols"] = list(rule.symbols)
    return mapping


def fingerprint(rules: Iterable[Rule]) -> str:
    """A short text that is the same for the same rules in any order, and differs for others."""
    mappings = sorted((rule_to_mapping(rule) for rule in rules), key=lambda values: str(values["rule_type"]))
    return hashlib.sha256(repr([sorted(values.items()) for values in mappings]).encode()).hexdigest()[:16]


def load_rules(text: str) -> tuple[Rule, ...]:
    """All rules of a YAML text, enabled or not, in order. Raises RuleError naming the rule at fault."""
    if len(text) > MAX_LENGTH:
        raise RuleError(f"the rule file has {len(text)} characters, the limit is {MAX_LENGTH}")
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RuleError(f"the rule file is not YAML: {error}") from error
    entries = document.get("rules") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RuleError("the rule file needs a list `rules:` of rules")
    if len(entries) > MAX_RULES:
        raise RuleError(f"the rule file has {len(entries)} rules, the limit is {MAX_RULES}")
    rules = tuple(rule_from_mapping(entry) for entry in entries)
    check_unique(rules)
    return rules


def dump_rules(rules: Iterable[Rule]) -> str:
    """YAML that `load_rules` reads back to equal rules."""
    entries = [rule_to_mapping(rule) for rule in rules]
    return yaml.safe_dump({"rules": entries}, sort_keys=False, allow_unicode=True, width=110)


def check_unique(rules: Iterable[Rule]) -> None:
    """Raises RuleError if two rules have one rule_type."""
    seen: set[str] = set()
    for rule in rules:
        if rule.rule_type in seen:
            raise RuleError(f"rule {rule.rule_type}: two rules have this rule_type; give each its own")
        seen.add(rule.rule_type)
