"""`screener rules check FILE`, `screener rules library`, and the rules that other commands read from a YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from app.errors import RuleError
from app.rules.files import library_text, load_rules, shipped_rules
from app.rules.language.names import nearest
from app.rules.rule import Rule


def check(file: Path) -> None:
    rules = rules_of(file)
    click.echo(f"{len(rules)} rules, {sum(rule.enabled for rule in rules)} of them enabled: all compile")


def library() -> None:
    click.echo(library_text(), nl=False)


def rules_of(path: Path | None) -> tuple[Rule, ...]:
    """Return all rules of the file, enabled or not; without a file the shipped ones. RuleError names the file."""
    if path is None:
        return shipped_rules()
    try:
        return load_rules(path.read_text(encoding="utf-8"))
    except (RuleError, UnicodeDecodeError) as error:
        raise RuleError(f"{path}: {error}") from error


def rule_named(rules: Sequence[Rule], rule_type: str) -> Rule:
    """Return the rule. Raises RuleError with a suggestion."""
    for rule in rules:
        if rule.rule_type == rule_type:
            return rule
    raise no_such_rule(rule_type, [rule.rule_type for rule in rules])


def no_such_rule(rule_type: str, known: Sequence[str]) -> RuleError:
    """Return the error for an unknown name, with a suggestion."""
    guesses = nearest(rule_type, tuple(known))
    advice = f"did you mean {guesses[0]}?" if guesses else f"known: {', '.join(known) or 'none'}"
    return RuleError(f"unknown rule {rule_type!r}; {advice}")
