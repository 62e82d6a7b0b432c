"""The rules that the screener ships, as data in `shipped.yaml`."""

from __future__ import annotations

from importlib import resources

from app.rules.files import load_rules
from app.rules.rule import Rule


def shipped_rules() -> tuple[Rule, ...]:
    """All eighteen, the first twelve enabled."""
    return load_rules(resources.files("app.rules").joinpath("shipped.yaml").read_text(encoding="utf-8"))
