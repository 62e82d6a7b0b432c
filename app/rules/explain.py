"""Why a condition is true, false or null: the same tree that is evaluated, with its numbers.

Follows the definitions of the language one row at a time, in plain Python; tests hold it equal to the
compiled evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.market.metrics import MetricsBatch
from app.rules.rule import Rule
from app.rules.tree import (
    Arithmetic,
    Column,
    Comparison,
    ConditionNode,
    Crossing,
    Function,
    Logic,
    Negative,
    Not,
    Number,
    NumberNode,
    Previous,
    children,
    to_text,
)

Values = Mapping[str, float | None]
"""Metric column -> value of one symbol at one minute; None, NaN or absent is null."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition of the tree.

    truth: None is null. For a comparison: `value` is its left side, `threshold` its right side, `margin` by
    how much it holds (negative: by how much it is missed; for == and != minus and plus the distance);
    `null_because` says what is missing where truth is null.
    """

    text: str
    truth: bool | None
    value: float | None = None
    threshold: float | None = None
    margin: float | None = None
    null_because: str = ""
    parts: tuple[Clause, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"text": self.text, "truth": self.truth}
        if self.parts:
            found["parts"] = [part.as_dict() for part in self.parts]
        else:
            found |= {"value": self.value, "threshold": self.threshold, "margin": self.margin}
        if self.null_because:
            found["null_because"] = self.null_because
        return found

    def lines(self, depth: int = 0) -> list[str]:
        """The tree as indented text, one condition per line."""
        word = {True: "true ", False: "false", None: "null "}[self.truth]
        detail = self.null_because
        if self.margin is not None:
            detail = f"{self.value:.6g} against {self.threshold:.6g}, margin {self.margin:+.6g}"
        line = f"{'  ' * depth}{word} {self.text}{f'   [{detail}]' if detail else ''}"
        return [line, *(line for part in self.parts for line in part.lines(depth + 1))]

    def failing(self) -> list[Clause]:
        """The comparisons and negations that keep the condition from being true; empty if it is true."""
        if self.truth:
            return []
        if len(self.parts) < 2:
            return [self]
        return [found for part in self.parts for found in part.failing()] or [self]


def explain(rule: Rule, history: Sequence[Values]) -> Clause:
    """The rule's condition at the last entry of `history`, one symbol's values by minute, oldest first.

    The entries before the last are the closed minutes right before it, for prev() and crossings; where they
    are missing, prev is null. Cooldown and hold play no part.
    """
    return explain_condition(rule.condition(), history)


def explain_condition(node: ConditionNode, history: Sequence[Values]) -> Clause:
    """As `explain`, for a tree. Rank and mean over the universe are null: one symbol does not tell them."""
    return _Explainer(history).condition(node)


def values_of(batch: MetricsBatch, row: int) -> dict[str, float | None]:
    """One row of a batch as an entry of a history."""
    values = batch.values[row].tolist()
    return {
        name: value if math.isfinite(value) else None
        for name, value in zip(batch.columns, values, strict=True)
    }


class _Explainer:
    def __init__(self, history: Sequence[Values]) -> None:
        self._history = history

    def condition(self, node: ConditionNode) -> Clause:
        match node:
            case Comparison():
                return self._comparison(node)
            case Not():
                part = self.condition(node.operand)
                truth = None if part.truth is None else not part.truth
                return Clause(to_text(node), truth, parts=(part,), null_because=part.null_because)
            case Crossing():
                return self._all(to_text(node), node.parts())
            case Logic():
                if node.operator == "and":
                    return self._all(to_text(node), node.operands)
                return self._any(to_text(node), node.operands)

    def _all(self, text: str, nodes: Sequence[ConditionNode]) -> Clause:
        parts = tuple(self.condition(node) for node in nodes)
        truths = [part.truth for part in parts]
        truth = False if False in truths else None if None in truths else True
        return Clause(text, truth, parts=parts, null_because=_first_null(parts) if truth is None else "")

    def _any(self, text: str, nodes: Sequence[ConditionNode]) -> Clause:
        parts = tuple(self.condition(node) for node in nodes)
        truths = [part.truth for part in parts]
        truth = True if True in truths else None if None in truths else False
        return Clause(text, truth, parts=parts, null_because=_first_null(parts) if truth is None else "")

    def _comparison(self, node: Comparison) -> Clause:
        text = to_text(node)
        left, right = self.number(node.left, 0), self.number(node.right, 0)
        if left is None or right is None:
            because = self._why_null(node.left if left is None else node.right, 0)
            return Clause(text, None, left, right, null_because=because)
        distance = abs(left - right)
        truth, margin = {
            ">": (left > right, left - right),
            ">=": (left >= right, left - right),
            "<": (left < right, right - left),
            "<=": (left <= right, right - left),
            "==": (left == right, -distance),
            "!=": (left != right, distance),
        }[node.operator]
        return Clause(text, truth, left, right, margin)

    def number(self, node: NumberNode, back: int) -> float | None:
        """The node's value `back` minutes before the last entry; None is null."""
        match node:
            case Number():
                return node.value
            case Column():
                value = self._column(node.name, back)
            case Previous():
                value = self.number(node.operand, back + 1)
            case Negative():
                operand = self.number(node.operand, back)
                value = None if operand is None else -operand
            case Arithmetic() | Function():
                value = self._computed(node, back)
            case _:
                value = None
        return None if value is None or math.isnan(value) else value

    def _column(self, name: str, back: int) -> float | None:
        return self._history[-1 - back].get(name) if back < len(self._history) else None

    def _computed(self, node: Arithmetic | Function, back: int) -> float | None:
        operands = (node.left, node.right) if isinstance(node, Arithmetic) else node.arguments
        values = [value for operand in operands if (value := self.number(operand, back)) is not None]
        if len(values) < len(operands):
            return None
        if isinstance(node, Function):
            return {"abs": lambda: abs(values[0]), "min": lambda: min(values), "max": lambda: max(values)}[
                node.name
            ]()
        left, right = values
        match node.operator:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "/":
                return left / right if right else None

    def _why_null(self, node: NumberNode, back: int) -> str:
        when = f" {back} minute{'s' * (back > 1)} before" if back else ""
        if isinstance(node, Column):
            if back >= len(self._history):
                return f"the minute{when} was not evaluated"
            return f"{node.name} is null{when}: a minute of its window is missing, or it is still warming up"
        if isinstance(node, Previous):
            return self._why_null(node.operand, back + 1)
        for child in children(node):
            if (
                not isinstance(child, Comparison | Crossing | Logic | Not)
                and self.number(child, back) is None
            ):
                return self._why_null(child, back)
        if isinstance(node, Arithmetic) and node.operator == "/":
            return f"{to_text(node.right)} is 0{when}, and nothing can be divided by it"
        return f"{to_text(node)} is null{when}"


def _first_null(parts: Sequence[Clause]) -> str:
    return next((part.null_because for part in parts if part.truth is None), "")
