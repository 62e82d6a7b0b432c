"""Clauses of rules as compiled code: each distinct step is computed once, over all rows of a frame.

A call of NumPy costs about as much as the arithmetic of 500 rows, and a rule needs several. A rule with a step that is
not in `_OPERATIONS`, such as a rank among all symbols, is left to NumPy (`program.where_all`), and so is a rule with a
hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from itertools import accumulate, chain
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import BoolArray, FloatArray
from app.compiled import called, kernel
from app.rules.evaluation.builder import NO_STEP, Builder, ProgramClause, divide, unequal
from app.rules.evaluation.program import Cells
from app.rules.evaluation.slots import ProgramStep
from app.rules.language.functions import Kernel

Positions = NDArray[np.intp]
_ROWS_AT_ONCE: Final = 512
"""The values of so many rows stay in the processor's cache."""
ALL_ROWS: Final = -1
"""Instead of the position of a mask."""


class _Operation(IntEnum):
    ADD = 0
    SUBTRACT = 1
    MULTIPLY = 2
    DIVIDE = 3
    NEGATE = 4
    ABSOLUTE = 5
    SMALLEST = 6
    LARGEST = 7
    GREATER = 8
    GREATER_EQUAL = 9
    EQUAL = 10
    UNEQUAL = 11
    AND = 12
    OR = 13
    NOT = 14


_OPERATIONS: Final[Mapping[Kernel, _Operation]] = {
    np.add: _Operation.ADD,
    np.subtract: _Operation.SUBTRACT,
    np.multiply: _Operation.MULTIPLY,
    # only by constants other than 0
    np.divide: _Operation.DIVIDE,
    divide: _Operation.DIVIDE,
    np.negative: _Operation.NEGATE,
    np.absolute: _Operation.ABSOLUTE,
    np.minimum: _Operation.SMALLEST,
    np.maximum: _Operation.LARGEST,
    np.greater: _Operation.GREATER,
    np.greater_equal: _Operation.GREATER_EQUAL,
    np.equal: _Operation.EQUAL,
    unequal: _Operation.UNEQUAL,
    np.logical_and: _Operation.AND,
    np.logical_or: _Operation.OR,
    np.logical_not: _Operation.NOT,
}
# kernels read constants of a module, not members of a class
_ADD, _SUBTRACT, _MULTIPLY, _DIVIDE, _NEGATE, _ABSOLUTE, _SMALLEST, _LARGEST = (
    operation.value for operation in list(_Operation)[:8]
)
_GREATER, _GREATER_EQUAL, _EQUAL, _UNEQUAL, _AND, _OR, _NOT = (
    operation.value for operation in list(_Operation)[8:]
)


class _Program(NamedTuple):
    """steps: (steps, 4) operation, left, right, out; left, right: a row of the cells, or the number of rows + the
    position of a constant. step_of: steps of clause after clause. clauses: (clauses + 1, 2) position of its first in
    step_of, and the row of the cells that holds its truth. first_clause: (rules + 1,)."""

    steps: NDArray[np.int64]
    step_of: NDArray[np.int64]
    clauses: NDArray[np.int64]
    first_clause: NDArray[np.int64]
    constants: FloatArray


class ClauseProgram:
    """The clauses of all rules of a book. compiled: (rules,) which rules it evaluates.

    The rows of the cells: the columns in the order of the builder, the other inputs, the results of steps, and two for
    constants.
    """

    def __init__(
        self, builder: Builder, clauses_by_rule: Sequence[Sequence[ProgramClause]], left_out: Sequence[bool]
    ) -> None:
        """left_out: (rules,) which rules are evaluated in another way whatever their steps."""
        self.compiled: BoolArray = np.array(
            [
                not out and all(step.kernel in _OPERATIONS for clause in clauses for step in clause.steps)
                for clauses, out in zip(clauses_by_rule, left_out, strict=True)
            ],
            np.bool_,
        )
        clauses = [
            clauses if compiled else ()
            for clauses, compiled in zip(clauses_by_rule, self.compiled, strict=True)
        ]
        steps = list(dict.fromkeys(step for clause in chain.from_iterable(clauses) for step in clause.steps))
        row_of = {cell: row for row, cell in enumerate(builder.columns)}
        self.columns = len(row_of)
        results = {step.out for step in steps}
        read = [cell for step in steps for cell in (step.left, step.right) if cell != NO_STEP]
        read += [clause.out for clause in chain.from_iterable(clauses)]
        for cell in dict.fromkeys(read):
            if cell not in results and cell not in builder.constants:
                row_of.setdefault(cell, len(row_of))
        self.inputs = tuple(row_of)[self.columns :]
        """Cells that are neither columns nor results."""
        for step in steps:
            row_of[step.out] = len(row_of)
        self.rows = len(row_of)
        self.program = _program(clauses, steps, row_of, builder.constants)


def _program(
    clauses: Sequence[Sequence[ProgramClause]],
    steps: Sequence[ProgramStep],
    row_of: dict[int, int],
    constants: Mapping[int, float],
) -> _Program:
    places = row_of | {cell: len(row_of) + at for at, cell in enumerate(constants)}
    number = {step: at for at, step in enumerate(steps)}
    in_order = list(chain.from_iterable(clauses))
    ends = accumulate((len(clause.steps) for clause in in_order), initial=0)
    return _Program(
        _rows(
            4,
            [
                (
                    _OPERATIONS[step.kernel].value,
                    places[step.left],
                    places[step.left if step.right == NO_STEP else step.right],
                    places[step.out],
                )
                for step in steps
            ],
        ),
        np.array([number[step] for clause in in_order for step in clause.steps], np.int64),
        _rows(2, list(zip(ends, [*(places[clause.out] for clause in in_order), 0], strict=True))),
        np.array([0, *accumulate(map(len, clauses))], np.int64),
        np.array(list(constants.values()), np.float64),
    )


def _rows(width: int, rows: Sequence[tuple[int, ...]]) -> NDArray[np.int64]:
    return np.array(rows, np.int64).reshape(len(rows), width)


class ClauseEvaluator:
    """Evaluates a program, with room for the values of a frame."""

    def __init__(self, program: ClauseProgram) -> None:
        self._of = program
        self._room = np.empty(0)

    def matches(
        self,
        block: FloatArray,
        cells: Cells,
        rules: Positions,
        masks: Sequence[BoolArray],
        mask_of: Positions,
    ) -> tuple[Positions, Positions]:
        """Return the row and the rule of every true condition; of one row by rule.

        block: (columns, rows), in the order of the builder. cells: with the other inputs. rules: the positions of
        compiled rules to look at. masks: (rows,) each. mask_of: (rules,) position of the mask with the rows at which
        the rule counts, or ALL_ROWS.
        """
        if not len(rules):
            return rules, rules
        found = [
            self._part(block, cells, rules, masks, mask_of, slice(first, first + _ROWS_AT_ONCE))
            for first in range(0, block.shape[1], _ROWS_AT_ONCE)
        ]
        row, rule = found[0] if len(found) == 1 else np.concatenate(found, axis=1)
        return row, rule

    def _part(
        self,
        block: FloatArray,
        cells: Cells,
        rules: Positions,
        masks: Sequence[BoolArray],
        mask_of: Positions,
        part: slice,
    ) -> Positions:
        """Return the matches, (2, matches), of a part of the rows."""
        columns = block[:, part]
        program, rows = self._of, columns.shape[1]
        size = (program.rows + 2) * rows
        if size > len(self._room):
            self._room = np.empty(size)
        filled = self._room[:size].reshape(program.rows + 2, rows)
        filled[: program.columns] = columns
        if program.inputs:
            inputs = filled[program.columns : program.columns + len(program.inputs)]
            np.concatenate([cells[cell][part] for cell in program.inputs], out=inputs.reshape(-1))
        known = np.zeros(program.rows, np.bool_)
        found = np.empty((2, len(rules) * rows), np.intp)
        among = np.array([mask[part] for mask in masks], np.bool_).reshape(len(masks), rows)
        used = _true_rows(
            program.program, filled, known, rules, among, mask_of, np.empty(rows, np.bool_), found
        )
        found = found[:, :used]
        found[0] += part.start
        return found


@kernel
def _true_rows(
    program: _Program, cells: FloatArray, known: BoolArray,
    rules: Positions, masks: NDArray[np.bool_], mask_of: Positions, alive: BoolArray, found: Positions,
) -> int:  # fmt: skip
    """Write row and rule of the true conditions to `found`, (2, room); return how many they are.

    known: (rows of the cells,) which results are computed. alive: (rows,), scratch.
    """
    used = 0
    for at in range(len(rules)):
        rule, mask = rules[at], mask_of[at]
        for row in range(len(alive)):
            alive[row] = mask == ALL_ROWS or masks[mask, row]
        left = len(alive)
        for clause in range(program.first_clause[rule], program.first_clause[rule + 1]):
            for place in range(program.clauses[clause, 0], program.clauses[clause + 1, 0]):
                step = program.step_of[place]
                out = program.steps[step, 3]
                if not known[out]:
                    known[out] = True
                    _compute(program, cells, step)
            left = _keep_true(cells[program.clauses[clause, 1]], alive)
            if left == 0:
                break
        if left > 0:
            for row in range(len(alive)):
                if alive[row]:
                    found[0, used] = row
                    found[1, used] = rule
                    used += 1
    return used


@called
def _keep_true(truth: FloatArray, alive: BoolArray) -> int:
    """Keep the rows that are true; return how many there are."""
    left = 0
    for row in range(len(truth)):
        alive[row] = alive[row] and truth[row] != 0.0
        left += alive[row]
    return left


@called
def _compute(program: _Program, cells: FloatArray, step: int) -> None:
    """Fill the row of a step's result."""
    left, right, spare = program.steps[step, 1], program.steps[step, 2], len(cells) - 2
    if left >= spare:
        cells[spare] = program.constants[left - spare]
        left = spare
    if right >= spare:
        cells[spare + 1] = program.constants[right - spare]
        right = spare + 1
    _apply(program.steps[step, 0], cells[left], cells[right], cells[program.steps[step, 3]])


@called
def _apply(operation: int, a: FloatArray, b: FloatArray, out: FloatArray) -> None:  # noqa: C901
    """Compute one operation over all rows; a truth is 1 or 0. As NumPy: a comparison with NaN is false, the smaller
    and the larger of NaN and a number are NaN."""
    rows = range(len(out))
    if operation == _GREATER:
        for r in rows:
            out[r] = 1.0 if a[r] > b[r] else 0.0
    elif operation == _GREATER_EQUAL:
        for r in rows:
            out[r] = 1.0 if a[r] >= b[r] else 0.0
    elif operation == _EQUAL:
        for r in rows:
            out[r] = 1.0 if a[r] == b[r] else 0.0
    elif operation == _UNEQUAL:
        for r in rows:
            out[r] = 1.0 if (a[r] < b[r]) | (a[r] > b[r]) else 0.0
    elif operation == _AND:
        for r in rows:
            out[r] = 1.0 if (a[r] != 0.0) & (b[r] != 0.0) else 0.0
    elif operation == _OR:
        for r in rows:
            out[r] = 1.0 if (a[r] != 0.0) | (b[r] != 0.0) else 0.0
    elif operation == _NOT:
        for r in rows:
            out[r] = 1.0 if a[r] == 0.0 else 0.0
    elif operation == _ADD:
        for r in rows:
            out[r] = a[r] + b[r]
    elif operation == _SUBTRACT:
        for r in rows:
            out[r] = a[r] - b[r]
    elif operation == _MULTIPLY:
        for r in rows:
            out[r] = a[r] * b[r]
    elif operation == _DIVIDE:
        for r in rows:
            out[r] = a[r] / b[r] if b[r] != 0.0 else np.nan
    elif operation == _NEGATE:
        for r in rows:
            out[r] = -a[r]
    elif operation == _ABSOLUTE:
        for r in rows:
            out[r] = abs(a[r])
    elif operation == _SMALLEST:
        for r in rows:
            out[r] = a[r] if (a[r] <= b[r]) | (a[r] != a[r]) else b[r]
    elif operation == _LARGEST:
        for r in rows:
            out[r] = a[r] if (a[r] >= b[r]) | (a[r] != a[r]) else b[r]
