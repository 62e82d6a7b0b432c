"""A rule: a condition in text, and the alert it causes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from app.candles.symbols import are_symbols, is_symbol
from app.errors import RuleError
from app.rules.language.parser import condition_faults, parse_condition
from app.rules.language.tree import ConditionNode
from app.rules.language.walks import columns_of, uses_market

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
class Fault:
    """An error in one field of a rule; `position` as in RuleError, for the expression."""

    field: str
    text: str
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Checked on construction: every Rule compiles. Raises RuleError.

    rule_type: the rule's name, `[a-z][a-z0-9_]*`, unique in a book. expression: see LANGUAGE.md.
    cooldown_s: event time between two alerts of one symbol. version: goes into the alert's id; raise it when
    the meaning changes. mode: `live` looks at every accepted update, `close` at closed candles only; None
    takes the screener's setting. symbols: None for all. hold_s: the condition must have been true at every
    evaluation for so much event time before it counts; 0 for at once. shadow: its alerts are stored, and sent to
    nobody.
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
    shadow: bool = False

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in self.__slots__}
        if faults := faults_of(values):
            raise rule_error(self.rule_type, faults)

    def condition(self) -> ConditionNode:
        return parse_condition(self.expression)

    @property
    def looks_at_market(self) -> bool:
        """Whether it uses a function over all symbols: it is evaluated when a minute of all of them is sealed."""
        return uses_market(self.condition())


def faults_of(values: Mapping[str, Any]) -> list[Fault]:
    """Return all faults of the given fields, of any types."""
    found = []
    for name, value in values.items():
        if check := _CHECKS.get(name):
            try:
                found += [Fault(name, text) for text in check(value)]
            except Exception as error:
                found.append(Fault(name, f"unreadable {name}: {type(error).__name__}"))
    if _is_text(values.get("expression")):
        found += _expression_faults(values["expression"])
    return found


def rule_error(rule_type: object, faults: Sequence[Fault]) -> RuleError:
    """Return one error for all of them; `position` is that of the first that has one."""
    position = next((fault.position for fault in faults if fault.position is not None), 0)
    return RuleError(f"rule {shown(rule_type)}: {'; '.join(fault.text for fault in faults)}", position)


def shown(value: object) -> str:
    """Return a value for a message, with at most 80 characters."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    text = "".join(character if character.isprintable() else "?" for character in text[:81])
    return text if len(text) <= 80 else f"{text[:79]}…"


def _expression_faults(expression: str) -> list[Fault]:
    try:
        condition = parse_condition(expression)
    except RuleError:
        return [Fault("expression", str(error), error.position) for error in condition_faults(expression)]
    if not columns_of(condition):
        return [Fault("expression", "the expression uses no metric, so it never changes")]
    return []


def _rule_type_faults(value: object) -> list[str]:
    if isinstance(value, str) and _RULE_TYPE.fullmatch(value):
        return []
    return [
        f"rule_type '{shown(value)}': use lower-case letters, digits and _, a letter first, at most 64 characters"
    ]


def _expression_type_faults(value: object) -> list[str]:
    return [] if _is_text(value) else ["expression must be text"]


def _severity_faults(value: object) -> list[str]:
    if _is_text(value) and value in SEVERITIES:
        return []
    return [f"severity '{shown(value)}' is not one of {', '.join(SEVERITIES)}"]


def _mode_faults(value: object) -> list[str]:
    if value is None or (_is_text(value) and value in MODES):
        return []
    return [f"mode '{shown(value)}' is not live or close; omit it to use the setting"]


def _description_faults(value: object) -> list[str]:
    if not isinstance(value, str) or len(value) > 1_000:
        return ["description must be text of at most 1,000 characters"]
    return [] if _is_storable(value) else ["description contains NUL or half of a surrogate pair"]


def _flag(name: str) -> Callable[[object], list[str]]:
    return lambda value: [] if isinstance(value, bool) else [f"{name} must be true or false"]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_storable(text: str) -> bool:
    """Return whether JSON and the database take it."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _whole_number(name: str, least: int, most: int) -> Callable[[object], list[str]]:
    def faults(value: object) -> list[str]:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return []
        return [f"{name} {shown(value)}: must be a whole number from {least} to {most}"]

    return faults


def _symbol_faults(symbols: object) -> list[str]:
    if symbols is None:
        return []
    if not isinstance(symbols, tuple) or not all(isinstance(symbol, str) for symbol in symbols):
        return ["symbols must be a list of symbols"]
    if not symbols:
        return ["symbols is empty, so the rule can never fire; omit it for all symbols"]
    if len(symbols) > MAX_SYMBOLS:
        return [f"{len(symbols)} symbols, the limit is {MAX_SYMBOLS}"]
    if are_symbols(symbols):
        return []
    odd = [symbol for symbol in symbols if not is_symbol(symbol)]
    more = f", and {len(odd) - 1} more are invalid" if len(odd) > 1 else ""
    return [f"{symbol[:80]!r} is not a symbol{more}" for symbol in odd[:1]]


_CHECKS: Final[dict[str, Callable[[object], list[str]]]] = {
    "rule_type": _rule_type_faults,
    "expression": _expression_type_faults,
    "severity": _severity_faults,
    "cooldown_s": _whole_number("cooldown_s", 0, MAX_COOLDOWN_S),
    "description": _description_faults,
    "version": _whole_number("version", 1, MAX_VERSION),
    "enabled": _flag("enabled"),
    "shadow": _flag("shadow"),
    "mode": _mode_faults,
    "symbols": _symbol_faults,
    "hold_s": _whole_number("hold_s", 0, MAX_HOLD_S),
}
"""Field -> the fault of its value."""
