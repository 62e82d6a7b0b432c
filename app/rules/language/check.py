"""Every fault of a text, each with its place and what its author probably meant: for an editor that underlines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

from app.errors import RuleError
from app.market.fields import FIELDS
from app.market.timeframes import TIMEFRAMES
from app.rules.language.functions import BY_NAME
from app.rules.language.lexer import MAX_LENGTH
from app.rules.language.names import FIELD_NAMES, nearest
from app.rules.language.parser import condition_faults, number_faults, parse_condition, parse_number
from app.rules.language.tree import Node
from app.rules.language.walks import columns_of, uses_previous

Kind = Literal["rule", "screen", "number"]
"""rule: a condition. screen: a condition of a query. number: the sort key of a query."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_PART: Final = re.compile(
    r"[A-Za-z_][A-Za-z0-9_]*|[0-9][A-Za-z0-9_.]*|>=|<=|==|!=|&&|\|\||\*\*|//|\s+|.", re.DOTALL
)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS: Final = ("and", "or", "not")


@dataclass(frozen=True, slots=True)
class TextFault:
    """position, length: the characters at fault, counted from 0; length 0 at the end of the text. suggestions: names to
    write instead, the likeliest first."""

    position: int
    length: int
    message: str
    suggestions: tuple[str, ...] = ()


def text_faults(text: str, kind: Kind) -> tuple[TextFault, ...]:
    """Return the faults of an expression in order of place, at most MOST_FAULTS; empty if it compiles."""
    found = number_faults(text) if kind == "number" else condition_faults(text)
    if not found:
        found = _faults_of_tree(parse_number(text) if kind == "number" else parse_condition(text), kind)
    return tuple(_placed(text, error) for error in found)


def _faults_of_tree(tree: Node, kind: Kind) -> list[RuleError]:
    if kind == "rule" and not columns_of(tree):
        return [RuleError("the expression uses no metric, so it never changes")]
    if kind != "rule" and uses_previous(tree):
        message = "a query reads one moment: prev() and crossings work only in rules"
        return [RuleError(message, tree.position)]
    return []


def _placed(text: str, error: RuleError) -> TextFault:
    """Return the fault with the length of the part of the text that begins at its position."""
    at = min(max(0, error.position), len(text))
    if at >= MAX_LENGTH:
        return TextFault(at, len(text) - at, str(error))
    part = _PART.match(text, at)
    length = 0 if part is None else part.end() - at
    name = text[at : at + length]
    return TextFault(at, length, str(error), _suggestions(name) if _NAME.fullmatch(name) else ())


def _suggestions(name: str) -> tuple[str, ...]:
    if name in FIELD_NAMES or name in BY_NAME or name.lower() in _WORDS:
        return ()
    lowered = name.lower()
    if lowered in FIELD_NAMES:
        return (lowered,)
    if lowered in FIELDS:
        return tuple(f"{lowered}_{timeframe}" for timeframe in TIMEFRAMES)[1:4]
    return tuple(nearest(name, FIELD_NAMES + tuple(BY_NAME)))
