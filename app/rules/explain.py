"""Explanation of a condition: the tree of the evaluation, with its numbers.

Follows the definitions of the language one row at a time, in plain Python; tests hold it equal to the
compiled evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from app.errors import RuleError
from app.market.metrics import MetricsBatch
from app.number_text import number_text
from app.rules.alert import Alert
from app.rules.language.canonical_text import to_text
from app.rules.language.functions import BY_NAME
from app.rules.language.parser import parse_condition
from app.rules.language.tree import (
    CONDITION_KINDS,
    Arithmetic,
    Closes,
    Column,
    Comparison,
    ConditionNode,
    Crossing,
    Function,
    Indicator,
    Lately,
    Logic,
    Negative,
    Not,
    Number,
    NumberNode,
    OverTime,
    Previous,
    Universe,
)
from app.rules.language.walks import children, columns_of
from app.rules.rule import Rule

Values = Mapping[str, float | None]
"""Metric column -> value of one symbol at one minute; None, NaN or absent is null."""


class ClauseDocument(TypedDict):
    """A `Clause` as JSON: with `parts`, or with value, threshold and margin."""

    text: str
    truth: bool | None
    parts: NotRequired[list[ClauseDocument]]
    value: NotRequired[float | None]
    threshold: NotRequired[float | None]
    margin: NotRequired[float | None]
    null_because: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition of the tree.

    truth: None is null. For a comparison: `value` is its left side, `threshold` its right side, `margin` by
    how much it holds (negative: by how much it is missed; for == and != minus and plus the distance);
    `null_because` names the missing values where truth is null.
    """

    text: str
    truth: bool | None
    value: float | None = None
    threshold: float | None = None
    margin: float | None = None
    null_because: str = ""
    parts: tuple[Clause, ...] = ()

    def as_dict(self) -> ClauseDocument:
        found: ClauseDocument = {"text": self.text, "truth": self.truth}
        if self.parts:
            found["parts"] = [part.as_dict() for part in self.parts]
        else:
            found["value"], found["threshold"], found["margin"] = self.value, self.threshold, self.margin
        if self.null_because:
            found["null_because"] = self.null_because
        return found

    def lines(self, depth: int = 0) -> list[str]:
        """Return the tree as indented text, one condition per line."""
        word = {True: "true ", False: "false", None: "null "}[self.truth]
        detail = self.null_because
        if self.margin is not None:
            margin = number_text(self.margin, signed=True)
            detail = f"{number_text(self.value)} against {number_text(self.threshold)}, margin {margin}"
        line = f"{'  ' * depth}{word} {self.text}{f'   [{detail}]' if detail else ''}"
        return [line, *(line for part in self.parts for line in part.lines(depth + 1))]

    def failing(self) -> list[Clause]:
        """Return the comparisons and negations that keep the condition from being true; empty if it is true."""
        if self.truth:
            return []
        if len(self.parts) < 2:
            return [self]
        return [found for part in self.parts for found in part.failing()] or [self]


def explain(rule: Rule, history: Sequence[Values]) -> Clause:
    """Return the rule's condition at the last entry of `history`, one symbol's values by minute, oldest first.

    The entries before the last are the closed minutes right before it, for prev() and crossings; where they
    are missing, prev is null. Cooldown and hold play no part.
    """
    return explain_condition(rule.condition(), history)


def explain_condition(node: ConditionNode, history: Sequence[Values]) -> Clause:
    """Explain a tree like `explain`. Functions over all symbols are null: one symbol is not enough for them."""
    return _Explainer(history).condition(node)


def explain_inputs(node: ConditionNode, inputs: Values) -> Clause:
    """Explain a tree from its inputs (`app.rules.evaluation.inputs`), by their canonical text."""
    return _FromSeen(inputs).condition(node)


def explain_alert(alert: Alert) -> Clause | None:
    """Return the condition of an alert with the values that its rule saw when it fired, which later updates of the
    minute and edits of the rule do not change; None for an alert without kept values."""
    seen = alert.seen
    if seen is None or not isinstance(seen.get("values"), dict):
        return None
    values = {
        str(text): float(value)
        for text, value in seen["values"].items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    try:
        return explain_inputs(parse_condition(str(seen.get("expression"))), values)
    except RuleError:
        return None


def values_of(batch: MetricsBatch, row: int) -> dict[str, float | None]:
    """Return one row of a batch as an entry of a history."""
    values = batch.values[row].tolist()
    return {
        name: None if math.isnan(value) else value for name, value in zip(batch.columns, values, strict=True)
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
            case Lately() | Closes():
                return self._of_time(node)
            case Logic():
                if node.operator == "and":
                    return self._all(to_text(node), node.operands)
                return self._any(to_text(node), node.operands)

    def _of_time(self, node: Lately | Closes) -> Clause:
        return Clause(to_text(node), None, null_because="its past is not known here")

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
        """Return the node's value `back` minutes before the last entry; None is null."""
        match node:
            case Number():
                return node.value
            case Column():
                value = self._column(node.name, back)
            case Previous() | OverTime() | Indicator():
                value = self._of_other_minutes(node, back)
            case Universe():
                value = self._over_all(node, back)
            case Negative():
                operand = self.number(node.operand, back)
                value = None if operand is None else -operand
            case Arithmetic() | Function():
                value = self._computed(node, back)
        return None if value is None or math.isnan(value) else value

    def _of_other_minutes(self, node: Previous | OverTime | Indicator, back: int) -> float | None:
        return self.number(node.operand, back + 1) if isinstance(node, Previous) else None

    def _over_all(self, node: Universe, back: int) -> float | None:
        """Return null: one symbol is not enough."""
        return None

    def _column(self, name: str, back: int) -> float | None:
        return self._history[-1 - back].get(name) if back < len(self._history) else None

    def _computed(self, node: Arithmetic | Function, back: int) -> float | None:
        operands = (node.left, node.right) if isinstance(node, Arithmetic) else node.numbers
        values = [value for operand in operands if (value := self.number(operand, back)) is not None]
        if len(values) < len(operands):
            return None
        if isinstance(node, Function):
            scalar = BY_NAME[node.name].scalar
            return None if scalar is None else scalar(values)
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
        when = f" {back} minute{'s' * (back > 1)} earlier" if back else ""
        if isinstance(node, Column):
            if back >= len(self._history):
                return f"the minute{when} was not evaluated"
            return f"{node.name} is null{when}: a minute of its window is missing, or it is still warming up"
        if isinstance(node, Previous):
            return self._why_null(node.operand, back + 1)
        if isinstance(node, OverTime | Indicator):
            return f"{to_text(node)} is null{when}: {BY_NAME[node.name].null}"
        if isinstance(node, Universe):
            return f"{to_text(node)} is null{when}"
        for child in children(node):
            if not isinstance(child, CONDITION_KINDS) and self.number(child, back) is None:
                return self._why_null(child, back)
        if isinstance(node, Arithmetic) and node.operator == "/":
            return f"{to_text(node.right)} is 0{when}: division by zero"
        return f"{to_text(node)} is null{when}"


class _FromSeen(_Explainer):
    """Knows the metrics of one minute, and by their text the values of the parts that look at other minutes or over all
    symbols; of a condition, 1 is true and 0 false."""

    def __init__(self, values: Values) -> None:
        super().__init__([values])
        self._values = values

    def _of_other_minutes(self, node: Previous | OverTime | Indicator, back: int) -> float | None:
        known = not isinstance(node, Previous) or columns_of(node)
        return self._values.get(to_text(node)) if known else super()._of_other_minutes(node, back)

    def _of_time(self, node: Lately | Closes) -> Clause:
        value = self._values.get(to_text(node))
        because = "" if value is not None else BY_NAME[node.name].null
        return Clause(to_text(node), None if value is None else value == 1.0, null_because=because)

    def _over_all(self, node: Universe, back: int) -> float | None:
        return self._values.get(to_text(node))


def _first_null(parts: Sequence[Clause]) -> str:
    return next((part.null_because for part in parts if part.truth is None), "")
