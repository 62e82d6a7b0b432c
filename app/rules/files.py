"""Rule sets as YAML text.

rules:
  - rule_type: my_rule
    expression: price_change_5m > 2 and volume_5m > 100k
    severity: high
    cooldown_s: 600
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from importlib import resources
from typing import Any, Final, Required, TypedDict, cast

import yaml

from app.errors import RuleError
from app.rules.file_places import RulePlaces, read_yaml
from app.rules.language.names import nearest
from app.rules.rule import Fault, Mode, Rule, Severity, faults_of, rule_error, shown

MAX_LENGTH = 1_000_000
MAX_RULES = 5_000
RULE_FIELDS: tuple[str, ...] = tuple(known.name for known in fields(Rule))
_DEFAULTS = {known.name: known.default for known in fields(Rule)}
_FAULTS_SHOWN: Final = 50
_UNKNOWN_SHOWN: Final = 10
"""Unknown fields of one rule."""
_NEEDED = ("rule_type", "expression", "severity")


class RuleMapping(TypedDict, total=False):
    """A valid rule in JSON or YAML; a missing field has its default."""

    rule_type: Required[str]
    expression: Required[str]
    severity: Required[Severity]
    cooldown_s: int
    description: str
    version: int
    enabled: bool
    mode: Mode | None
    symbols: list[str] | None
    hold_s: int
    shadow: bool


def rule_from_mapping(values: Mapping[str, Any]) -> Rule:
    """Return a rule from parsed YAML or JSON; unknown and missing keys are refused. Raises RuleError with all its
    faults."""
    given = _given(values)
    if faults := _key_faults(given):
        name = values.get("rule_type", "(without rule_type)")
        raise rule_error(name, faults + faults_of(given))
    return Rule(**given)


def mapping_faults(values: Mapping[str, Any]) -> list[Fault]:
    """Return all faults of a rule in parsed YAML or JSON."""
    return _key_faults(values) + faults_of(_given(values))


def _key_faults(values: Mapping[str, Any]) -> list[Fault]:
    unknown = [str(key) for key in values if key not in RULE_FIELDS]
    found = [Fault(key, _unknown_field(key)) for key in unknown[:_UNKNOWN_SHOWN]]
    if missing := [key for key in _NEEDED if key not in values]:
        found.append(Fault(missing[0], f"{', '.join(missing)} missing"))
    return found


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    given = dict(values)
    if isinstance(given.get("symbols"), list):
        given["symbols"] = tuple(given["symbols"])
    return given


def _unknown_field(key: str) -> str:
    guesses = nearest(key, RULE_FIELDS)
    advice = f"did you mean {guesses[0]}?" if guesses else f"known: {', '.join(RULE_FIELDS)}"
    return f"unknown field '{shown(key)}'; {advice}"


def rule_to_mapping(rule: Rule) -> RuleMapping:
    """Return the mapping that `rule_from_mapping` reads; fields with their default are left out."""
    values = {name: getattr(rule, name) for name in RULE_FIELDS}
    mapping = {name: value for name, value in values.items() if name in _NEEDED or value != _DEFAULTS[name]}
    if rule.symbols is not None:
        mapping["symbols"] = list(rule.symbols)
    return cast(RuleMapping, mapping)


def fingerprint(rules: Iterable[Rule]) -> str:
    """Return a short text that is the same for the same rules in any order, and differs for others."""
    mappings = sorted((rule_to_mapping(rule) for rule in rules), key=lambda values: values["rule_type"])
    return hashlib.sha256(repr([sorted(values.items()) for values in mappings]).encode()).hexdigest()[:16]


def load_rules(text: str) -> tuple[Rule, ...]:
    """Return all rules of a YAML text, enabled or not, in order. Raises RuleError naming every fault of every rule,
    each with its place."""
    if len(text) > MAX_LENGTH:
        raise RuleError(f"the rule file has {len(text)} characters, the limit is {MAX_LENGTH}")
    try:
        document, places = read_yaml(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RuleError(f"the rule file is not YAML: {error}") from error
    entries = document.get("rules") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RuleError("the rule file needs a list `rules:` of rules")
    if len(entries) > MAX_RULES:
        raise RuleError(f"the rule file has {len(entries)} rules, the limit is {MAX_RULES}")
    return rules_of_entries(entries, places)


def rules_of_entries(
    entries: Sequence[Mapping[str, Any]], places: Sequence[RulePlaces] = ()
) -> tuple[Rule, ...]:
    """Return the rules of a list. Raises one RuleError for all faults, each with its place where `places` tells it."""
    found: list[str] = []
    position = None
    seen: set[object] = set()
    for at, entry in enumerate(entries):
        where = places[at] if at < len(places) else RulePlaces()
        name = shown(entry.get("rule_type", "(without rule_type)"))
        faults = mapping_faults(entry)
        if name in seen and "rule_type" in entry:
            faults.append(Fault("rule_type", "two rules have this rule_type; each needs its own"))
        seen.add(name)
        repeated = [Fault(key, f"duplicate key {shown(key)}") for key in where.repeated]
        placed = [
            (where.index(fault, fault.field not in RULE_FIELDS or fault in repeated), fault)
            for fault in (*faults, *repeated)
        ]
        for index, fault in sorted(placed, key=lambda one: one[0] or 0):
            position = fault.position if position is None else position
            found.append(where.told(index, f"rule {name}: {fault.text}"))
    if found:
        raise RuleError(together(found), position or 0)
    return tuple(rule_from_mapping(entry) for entry in entries)


def together(faults: Sequence[str]) -> str:
    """Return one message of many, of a length that can be read."""
    if len(faults) == 1:
        return faults[0]
    left_out = [f"and {len(faults) - _FAULTS_SHOWN} more"] if len(faults) > _FAULTS_SHOWN else []
    return "\n  ".join((f"{len(faults)} faults", *faults[:_FAULTS_SHOWN], *left_out))


def dump_rules(rules: Iterable[Rule]) -> str:
    """YAML that `load_rules` reads back to equal rules."""
    entries = [rule_to_mapping(rule) for rule in rules]
    return yaml.safe_dump({"rules": entries}, sort_keys=False, allow_unicode=True, width=110)


def check_unique(rules: Iterable[Rule]) -> None:
    """Check the names. Raises RuleError if two rules have one rule_type."""
    seen: set[str] = set()
    for rule in rules:
        if rule.rule_type in seen:
            raise RuleError(f"rule {rule.rule_type}: two rules have this rule_type; each needs its own")
        seen.add(rule.rule_type)


def shipped_rules() -> tuple[Rule, ...]:
    """Return all eighteen, the first twelve enabled."""
    return load_rules(resources.files("app.rules").joinpath("shipped.yaml").read_text(encoding="utf-8"))


def library_text() -> str:
    """Return the YAML text of the rules to choose from, all disabled, with their tests."""
    return resources.files("app.rules").joinpath("library.yaml").read_text(encoding="utf-8")
