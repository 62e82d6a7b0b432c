"""Bring the shipped rules into `alert_rules`, without touching a user's changes.

A rule that this version ships for the first time is added. One whose shipped form has changed is replaced if
the stored rule is still the old shipped form; whether it is enabled stays as it is. A shipped rule that
was edited or deleted is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from app.database.rule_store import QUERIES, RuleRow, rule_parameters
from app.errors import RuleError
from app.rules.files import rule_from_mapping, rule_to_mapping
from app.rules.rule import Rule


def is_seeded(connection: Connection[Any], shipped: Sequence[Rule]) -> bool:
    """Return whether `seed_rules` would change nothing; reads only."""
    before = dict(connection.execute(QUERIES["rules_shipped_before"]).fetchall())
    return all(before.get(rule.rule_type) == rule_to_mapping(rule) for rule in shipped)


def seed_rules(connection: Connection[Any], shipped: Sequence[Rule]) -> None:
    """Add and replace shipped rules, within the caller's transaction and the lock of the migrations."""
    before = dict(connection.execute(QUERIES["rules_shipped_before"]).fetchall())
    for rule in shipped:
        mapping = rule_to_mapping(rule)
        if rule.rule_type not in before:
            connection.execute(QUERIES["add_rule"], rule_parameters(rule))
        elif before[rule.rule_type] != mapping:
            _renew(connection, rule, before[rule.rule_type])
        parameters = {"rule_type": rule.rule_type, "rule": Jsonb(mapping)}
        connection.execute(QUERIES["note_shipped_rule"], parameters)


def _renew(connection: Connection[Any], rule: Rule, shipped_before: object) -> None:
    with connection.cursor(row_factory=class_row(RuleRow)) as cursor:
        stored = cursor.execute(QUERIES["rule"], {"rule_type": rule.rule_type}).fetchone()
    if stored is None or not isinstance(shipped_before, dict) or not _is_unedited(stored, shipped_before):
        return
    connection.execute(QUERIES["put_rule"], {**rule_parameters(rule), "enabled": stored["enabled"]})


def _is_unedited(stored: RuleRow, shipped_before: Mapping[str, object]) -> bool:
    try:
        mapping = rule_to_mapping(rule_from_mapping(stored))
    except RuleError:
        return False
    return _without_enabled(mapping) == _without_enabled(shipped_before)


def _without_enabled(mapping: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in mapping.items() if name != "enabled"}
