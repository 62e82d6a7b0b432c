"""The rules a command works with: of a YAML file, or the shipped ones."""

from __future__ import annotations

from pathlib import Path

from app.errors import RuleError
from app.rules.files import load_rules
from app.rules.names import nearest
from app.rules.rule import Rule
from app.rules.shipped import shipped_rules


def rules_of(path: Path | None) -> tuple[Rule, ...]:
    """All rules of the file, enabled or not; without a file the shipped ones. RuleError names the file."""
    if path is None:
        return shipped_rules()
    try:
        return load_rules(path.read_text(encoding="utf-8"))
    except (RuleError, UnicodeDecodeError) as error:
        raise RuleError(f"{path}: {error}") from error


def rule_named(rules: tuple[Rule, ...], rule_type: str) -> Rule:
    """Raises RuleError with what may have been meant."""
    found = {rule.rule_type: rule for rule in rules}
    if rule_type in found:
        return found[rule_type]
    guesses = nearest(rule_type, tuple(found))
    advice = f"did you mean {guesses[0]}?" if guesses else f"there are {', '.join(found)}"
    raise RuleError(f"there is no rule {rule_type!r}; {advice}")
