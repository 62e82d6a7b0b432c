"""Conditions compiled to steps of NumPy: all rules of a book as one list, each distinct part computed once.

A condition has three values: true, false, and null where a number in it is null. `and`, `or` and `not` follow
Kleene: null and false is false, null or true is true, not null is null; a null at the end counts as false.
Only "is it true?" is ever computed: `not` is moved down to the comparisons when compiling, where
not (a > b) becomes a <= b, and a comparison with NaN is false either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.candles.batch import BoolArray, FloatArray
from app.rules.evaluation.slots import PreviousSlot, ProgramStep, Slot
from app.rules.evaluation.time_parts import TimeParts
from app.rules.language.canonical_text import to_text
from app.rules.language.functions import FOLDED_KERNELS, KERNELS, Kernel
from app.rules.language.tree import (
    CONDITION_KINDS,
    Arithmetic,
    BarValue,
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
    SymbolName,
    Universe,
    WithReference,
)
from app.rules.language.walks import Look

NO_STEP: Final = -1


@dataclass(frozen=True, slots=True)
class ProgramClause:
    """One operand of a rule's outermost `and`: the cell of its truth, and the steps that fill it."""

    out: int
    steps: tuple[ProgramStep, ...]


def divide(left: FloatArray, right: FloatArray) -> FloatArray:
    quotient: FloatArray = np.divide(left, right)
    return np.where(np.equal(right, 0.0), np.nan, quotient)


def unequal(left: FloatArray, right: FloatArray) -> BoolArray:
    """Return where the values differ. NaN, which is null, differs from nothing."""
    return np.less(left, right) | np.greater(left, right)


_ARITHMETIC: Final[dict[str, Kernel]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": divide,
}
_COMPARISONS: Final[dict[str, Kernel]] = {
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": unequal,
}
_OPPOSITE: Final = {">": "<=", ">=": "<", "<": ">=", "<=": ">", "==": "!=", "!=": "=="}
_SWAPPED: Final = {"<": ">", "<=": ">="}


class Builder(TimeParts):
    """Collects the steps of many conditions; equal parts share a cell.

    cells: constants first known at compile time, columns and values of other minutes filled per batch, the rest by
    steps.
    """

    def __init__(self) -> None:
        self.constants: dict[int, float] = {}
        self.columns: dict[int, str] = {}
        self.slots: list[Slot] = []
        self.moments: dict[int, int] = {}
        self.indicators: dict[str, int] = {}
        self.rows_of: dict[int, str] = {}
        """Cell that holds which rows are of a symbol -> the symbol."""
        self.moving_with: dict[int, WithReference] = {}
        """Cell that holds the value of a function of returns -> its call."""
        self._cells: dict[tuple[object, ...], int] = {}
        self._steps: dict[int, ProgramStep] = {}

    @property
    def width(self) -> int:
        return len(self._cells)

    def _cell(self, *key: object) -> tuple[int, bool]:
        known = self._cells.get(key)
        if known is not None:
            return known, False
        self._cells[key] = cell = len(self._cells)
        return cell, True

    def _step(self, name: str, kernel: Kernel, left: int, right: int = NO_STEP) -> int:
        constants = self.constants
        if left in constants and (right == NO_STEP or right in constants) and kernel in _FOLDED:
            arguments = [constants[left]] if right == NO_STEP else [constants[left], constants[right]]
            with np.errstate(all="ignore"):
                return self._constant(float(kernel(*arguments)))
        cell, new = self._cell(name, left, right)
        if new:
            self._steps[cell] = ProgramStep(cell, kernel, left, right)
        return cell

    def _constant(self, value: float) -> int:
        cell, new = self._cell("constant", repr(value))
        if new:
            self.constants[cell] = value
        return cell

    def number(self, node: NumberNode) -> int:
        """Return the cell that will hold the node's value."""
        match node:
            case Number():
                return self._constant(node.value)
            case Column():
                cell, new = self._cell("column", node.name)
                if new:
                    self.columns[cell] = node.name
                return cell
            case Negative():
                return self._step("negative", np.negative, self.number(node.operand))
            case Arithmetic():
                left, right = self.number(node.left), self.number(node.right)
                kernel = _ARITHMETIC[node.operator]
                if kernel is divide and self.constants.get(right, 0.0) != 0.0:
                    kernel = np.divide
                return self._step(node.operator, kernel, left, right)
            case Universe():
                return self._over_all(node)
            case Function():
                return self._chain(node.name, KERNELS[node.name], [self.number(a) for a in node.numbers])
            case _:
                return self._of_other_minutes(node)

    def _of_other_minutes(self, node: Previous | OverTime | BarValue | Indicator) -> int:
        match node:
            case Previous():
                return self._previous(node)
            case OverTime():
                return self.over_time(node)
            case BarValue():
                return self.bar_value(node)
            case Indicator():
                return self.indicator(node)

    def _over_all(self, node: Universe) -> int:
        if isinstance(node, WithReference):
            cell, new = self._cell(node.name, node.reference, node.minutes)
            if new:
                self.number(node.operands[0])
                self.moving_with[cell] = node
            return cell
        kernel, operand, symbol = KERNELS[node.name], node.operands[0], node.arguments[0]
        if isinstance(operand, CONDITION_KINDS):
            true, false = self.condition(operand), self.condition(operand, negated=True)
            return self._step(node.name, kernel, true, false)
        value = self.number(operand)
        if not isinstance(symbol, SymbolName):
            return self._step(node.name, kernel, value)
        rows, new = self._cell("rows of", symbol.text)
        if new:
            self.rows_of[rows] = symbol.text
        return self._step(node.name, kernel, value, rows)

    def _previous(self, node: Previous) -> int:
        operand = self.number(node.operand)
        if operand in self.constants:
            return operand
        cell, new = self._cell("prev", operand)
        if new:
            self.slots.append(PreviousSlot(to_text(node.operand), operand, self.steps_for(operand), cell))
        return cell

    def _chain(self, name: str, kernel: Kernel, cells: Sequence[int]) -> int:
        if len(cells) == 1:
            return self._step(name, kernel, cells[0])
        result = cells[0]
        for cell in cells[1:]:
            result = self._step(name, kernel, result, cell)
        return result

    def condition(self, node: ConditionNode, negated: bool = False) -> int:
        """Return the cell that will hold whether the node (or, negated, its opposite) is true."""
        match node:
            case Comparison():
                operator = _OPPOSITE[node.operator] if negated else node.operator
                left, right = self.number(node.left), self.number(node.right)
                if operator in _SWAPPED:
                    operator, left, right = _SWAPPED[operator], right, left
                return self._step(operator, _COMPARISONS[operator], left, right)
            case Not():
                return self.condition(node.operand, not negated)
            case Lately():
                return self.lately_is(node, not negated)
            case Closes():
                cell = self.closes(node)
                return self._step("not", np.logical_not, cell) if negated else cell
            case Crossing():
                return self._all_or_any(node.parts(), "or" if negated else "and", negated)
            case Logic():
                operator = {"and": "or", "or": "and"}[node.operator] if negated else node.operator
                return self._all_or_any(node.operands, operator, negated)

    def look(self, node: Look) -> int:
        """Return the cell that is filled with an input's value; for a condition, 1, UNKNOWN or 0."""
        if isinstance(node, Lately):
            return self.over_time(node)
        return self.condition(node) if isinstance(node, CONDITION_KINDS) else self.number(node)

    def _all_or_any(self, nodes: Sequence[ConditionNode], operator: str, negated: bool) -> int:
        kernel = np.logical_and if operator == "and" else np.logical_or
        cells = [self.condition(node, negated) for node in nodes]
        return self._chain(operator, kernel, cells)

    def clauses(self, node: ConditionNode) -> tuple[ProgramClause, ...]:
        """Return the operands of the outermost `and`, to be tried in order until no row is left."""
        cells = [self.condition(part) for part in _conjuncts(node)]
        return tuple(ProgramClause(cell, self.steps_for(cell)) for cell in dict.fromkeys(cells))

    def steps_for(self, cell: int) -> tuple[ProgramStep, ...]:
        """Return the steps that fill the cell, in an order in which they can run."""
        needed: set[int] = set()
        waiting = [cell]
        while waiting:
            at = waiting.pop()
            step = self._steps.get(at)
            if step is None or at in needed:
                continue
            needed.add(at)
            waiting += [step.left] if step.right == NO_STEP else [step.left, step.right]
        return tuple(self._steps[at] for at in sorted(needed))


_FOLDED: Final = (*_ARITHMETIC.values(), np.divide, np.negative, *FOLDED_KERNELS)
"""Kernels that are computed at compile time when their arguments are constants."""


def _conjuncts(node: ConditionNode) -> list[ConditionNode]:
    if isinstance(node, Logic) and node.operator == "and":
        return [part for operand in node.operands for part in _conjuncts(operand)]
    if isinstance(node, Crossing):
        before, now = node.parts()
        return [now, before]
    return [node]
