"""A rule: a condition in text, and what it means when the condition is true."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from app.errors import RuleError
from app.rules.parser import parse_condition
from app.rules.tree import ConditionNode, columns_of

Severity = Literal["critical", "high", "medium", "low", "info"]
Mode = Literal["live", "close"]

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
MODES: tuple[Mode, ...] = get_args(Mode)
MAX_COOLDOWN_S = 7 * 86_400
MAX_HOLD_S = 86_400
MAX_VERSION = 1_000_000_000
MAX_SYMBOLS = 5_000
_RULE_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Rule:
    """Checked on construction: whoever holds a Rule holds one that compiles. Raises RuleError.

    rule_type: the rule's name, `[a-z][a-z0-9_]*`, unique in a book. expression: see LANGUAGE.md.
    cooldown_s: event time between two alerts of one symbol. version: goes into the alert's id; raise it when
    the meaning changes. mode: `live` looks at every accepted update, `close` at closed candles only; None
    takes the screener's setting. symbols: None for all. hold_s: the condition must have been true at every
    evaluation for so much event time before it counts; 0 for at once.
    """

    rule_type: str
    expression: str
    severity: Severity
    cooldown_s: int = 300
    description: str = ""
    version: int = 1
    enabled: bool = True
    mode: Mode | None = None
    symbols: tuple[str, ...] | None = None
    hold_s: int = 0

    def __post_init__(self) -> None:
        if not _RULE_TYPE.fullmatch(str(self.rule_type)):
            needed = "lower-case letters, digits and _, a letter first, 64 characters at most"
            raise RuleError(f"rule_type {str(self.rule_type)[:80]!r}: {needed}")
        for faulty in self._faults():
            raise RuleError(f"rule {self.rule_type}: {faulty}")
        self._check_expression()

    def _faults(self) -> list[str]:
        faults = []
        if not _is_text(self.expression):
            faults.append("expression must be text")
        if self.severity not in SEVERITIES:
            faults.append(f"severity {self.severity!r} is none of {', '.join(SEVERITIES)}")
        if self.mode is not None and self.mode not in MODES:
            faults.append(f"mode {self.mode!r} is neither live nor close; leave it out for the setting's")
        if not _is_text(self.description) or len(self.description) > 1_000:
            faults.append("description must be text of 1,000 characters at most")
        elif not _is_storable(self.description):
            faults.append("description has a NUL or half of a surrogate pair in it")
        if not _is_bool(self.enabled):
            faults.append("enabled must be true or false")
        faults += _number_fault("cooldown_s", self.cooldown_s, 0, MAX_COOLDOWN_S)
        faults += _number_fault("hold_s", self.hold_s, 0, MAX_HOLD_S)
        faults += _number_fault("version", self.version, 1, MAX_VERSION)
        if self.symbols is not None:
            faults += _symbol_faults(self.symbols)
        return faults

    def _check_expression(self) -> None:
        try:
            condition = self.condition()
        except RuleError as error:
            raise RuleError(f"rule {self.rule_type}: {error}", error.position) from None
        if not columns_of(condition):
            raise RuleError(f"rule {self.rule_type}: the expression looks at no metric, so it never changes")

    def condition(self) -> ConditionNode:
        return parse_condition(self.expression)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_storable(text: str) -> bool:
    """Whether JSON and the database take it."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _number_fault(name: str, value: object, least: int, most: int) -> list[str]:
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return []
    return [f"{name} {value!r}: a whole number from {least} to {most} is needed"]


def _symbol_faults(symbols: object) -> list[str]:
    if not isinstance(symbols, tuple) or not all(isinstance(symbol, str) for symbol in symbols):
        return ["symbols must be a list of symbols"]
    if not symbols:
        return ["symbols is empty, so the rule could never fire; leave it out for all symbols"]
    if len(symbols) > MAX_SYMBOLS:
        return [f"{len(symbols)} symbols, the limit is {MAX_SYMBOLS}"]
    odd = [symbol for symbol in symbols if not _is_symbol(symbol)]
    return [f"{symbol[:80]!r} is not a symbol" for symbol in odd[:1]]


def _is_symbol(text: str) -> bool:
    return 0 < len(text) <= 64 and text.isprintable() and " " not in text
