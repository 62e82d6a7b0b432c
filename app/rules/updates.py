"""A new state of the rules, taken over rule by rule: an invalid rule is rejected; its last valid version stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.errors import RuleError
from app.rules.files import rule_from_mapping
from app.rules.rule import Rule, shown


@dataclass(frozen=True, slots=True)
class Update:
    """rules: the active rules from now on, in the order given. The other fields tell the result of each rule_type.

    refused: rule_type -> why; the rule stays as it was before, if there was one. unversioned: rules that changed in
    meaning under the same version, so that alerts of both meanings share their ids.
    """

    rules: tuple[Rule, ...]
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unversioned: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_change(self) -> bool:
        """Whether a new book must be compiled."""
        return bool(self.added or self.changed or self.removed)


def update_rules(current: Sequence[Rule], wanted: Sequence[Mapping[str, Any]]) -> Update:
    """Return the changes when `wanted` (all rules, from the database or a file) replaces `current`."""
    before = {rule.rule_type: rule for rule in current}
    after: dict[str, Rule] = {}
    refused: dict[str, str] = {}
    for values in wanted:
        name = shown(values.get("rule_type"))
        try:
            if name in after:
                raise RuleError(f"rule {name}: two rules have this rule_type; each needs its own")
            after[name] = rule_from_mapping(values)
        except RuleError as error:
            refused[name] = str(error)
            if name in before and name not in after:
                after[name] = before[name]
    changed = [name for name, rule in after.items() if name in before and rule != before[name]]
    return Update(
        rules=tuple(after.values()),
        added=tuple(name for name in after if name not in before),
        changed=tuple(changed),
        removed=tuple(name for name in before if name not in after),
        unversioned=tuple(name for name in changed if _means_otherwise(before[name], after[name])),
        refused=refused,
    )


def _means_otherwise(before: Rule, after: Rule) -> bool:
    return before.version == after.version and (
        before.condition() != after.condition() or before.hold_s != after.hold_s or before.mode != after.mode
    )
