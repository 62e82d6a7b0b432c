"""A second implementation of the rule language, from its description, without app.rules: row by row, with scalars.

A number is a float or None (null); a condition is True, False or None, by Kleene's logic.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Tree = tuple  # ("kind", ...)
Values = Mapping[str, float]

_DIGITS = r"(?:\d[\d_]*(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?[kKM]?"
_TOKEN = re.compile(rf"\s*(?:{_DIGITS}|\w+|>=|<=|==|!=|[-+*/()<>,])")
_ALIASES = {"price": "close_1m", "high": "high_1m", "volume_5m": "quote_volume_5m"}
_FACTORS = {"k": 1e3, "K": 1e3, "M": 1e6}


@dataclass(frozen=True)
class Look:
    """The data that an expression can see: a row, its symbol's closed minutes before it, and for a query all rows."""

    values: Values
    minute: int = 0
    closed: Mapping[int, Values] | None = None
    market: Sequence[Values] = ()

    def before(self) -> Look | None:
        known = self.closed or {}
        at = self.minute - 1
        return Look(known[at], at, known) if at in known else None


def parse(text: str) -> Tree:
    tokens = [found.group().strip() for found in _TOKEN.finditer(text)]
    parser = _Parser(tokens)
    tree = parser.disjunction()
    assert parser.at == len(tokens), text
    return tree


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at = tokens, 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def disjunction(self) -> Tree:
        return self._joined("or", self.conjunction)

    def conjunction(self) -> Tree:
        return self._joined("and", self.negation)

    def _joined(self, word: str, part: Callable[[], Tree]) -> Tree:
        parts = [part()]
        while self.peek().lower() == word:
            self.take()
            parts.append(part())
        return parts[0] if len(parts) == 1 else (word, *parts)

    def negation(self) -> Tree:
        if self.peek().lower() == "not":
            self.take()
            return ("not", self.negation())
        left = self.sum()
        if self.peek() in (">", ">=", "<", "<=", "==", "!="):
            return (self.take(), left, self.sum())
        return left

    def sum(self) -> Tree:
        return self._binary("+-", self.product)

    def product(self) -> Tree:
        return self._binary("*/", self.unary)

    def _binary(self, operators: str, part: Callable[[], Tree]) -> Tree:
        tree = part()
        while self.peek() and self.peek() in operators:
            tree = (self.take(), tree, part())
        return tree

    def unary(self) -> Tree:
        if self.peek() == "-":
            self.take()
            return ("negative", self.unary())
        token = self.take()
        if token == "(":
            tree = self.disjunction()
            assert self.take() == ")"
            return tree
        if token[0].isdigit() or token[0] == ".":
            factor = _FACTORS.get(token[-1], 1.0)
            return ("literal", float(token.rstrip("kKM").replace("_", "")) * factor)
        if self.peek() != "(":
            return ("column", _ALIASES.get(token, token))
        self.take()
        arguments = [self.disjunction()]
        while self.take() == ",":
            arguments.append(self.disjunction())
        return (token, *arguments)


def number(tree: Tree, look: Look) -> float | None:
    found = _number(tree, look)
    return None if found is None or math.isnan(found) else found


def _number(tree: Tree, look: Look) -> float | None:
    kind, *parts = tree
    if kind == "literal":
        return parts[0]
    if kind == "column":
        return look.values.get(parts[0], math.nan)
    if kind == "prev":
        if not _has_column(parts[0]):
            return number(parts[0], look)
        before = look.before()
        return None if before is None else number(parts[0], before)
    if kind in ("rank", "pct_rank", "mean", "median", "share", "of"):
        return _of_market(kind, parts, look)
    values = [number(part, look) for part in parts]
    if any(value is None for value in values):
        return None
    return _OPERATIONS[kind](*values)


def _of_market(kind: str, parts: list[Tree], look: Look) -> float | None:
    looks = [Look(row, market=look.market) for row in look.market]
    if kind == "of":
        # row N is that of symbol SNUSDT
        at = int(parts[0][1].removeprefix("S").removesuffix("USDT"))
        return number(parts[1], looks[at]) if at < len(looks) else None
    tree = parts[0]
    if kind == "share":
        truths = [known for one in looks if (known := truth(tree, one)) is not None]
        return sum(truths) / len(truths) if len(truths) >= 2 else None
    known = [value for one in looks if (value := number(tree, one)) is not None]
    if kind in ("mean", "median"):
        with np.errstate(all="ignore"):
            average = np.mean if kind == "mean" else np.median
            return float(average(np.array(known))) if len(known) >= 2 else None
    own = number(tree, look)
    if kind == "rank":
        return None if own is None else 1.0 + sum(value > own for value in known)
    if own is None or len(known) < 2:
        return None
    return (sum(value < own for value in known) + (sum(value == own for value in known) - 1) / 2) / (
        len(known) - 1
    )


_OPERATIONS: dict[str, Callable[..., float | None]] = {
    "negative": lambda a: -a,
    "abs": abs,
    "min": min,
    "max": max,
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: None if b == 0 else a / b,
}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


def truth(tree: Tree, look: Look) -> bool | None:
    kind, *parts = tree
    if kind == "not":
        found = truth(parts[0], look)
        return None if found is None else not found
    if kind in ("and", "or"):
        return _kleene(kind, [truth(part, look) for part in parts])
    if kind.startswith("crosses_"):
        left, right = parts
        before, now = ("<=", ">") if kind == "crosses_above" else (">=", "<")
        return _kleene(
            "and", [truth((before, ("prev", left), ("prev", right)), look), truth((now, left, right), look)]
        )
    left, right = (number(part, look) for part in parts)
    return None if left is None or right is None else _COMPARISONS[kind](left, right)


def _kleene(word: str, truths: Sequence[bool | None]) -> bool | None:
    decides = word == "or"
    if decides in truths:
        return decides
    return None if None in truths else not decides


def _has_column(tree: Tree) -> bool:
    kind, *parts = tree
    return kind == "column" or any(_has_column(part) for part in parts if isinstance(part, tuple))
