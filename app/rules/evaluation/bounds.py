"""Rules that cannot be true anywhere in a batch, found from the extremes of its columns.

Most rules begin with `column > constant`. If the greatest value of the column in the whole batch is below
the constant, no row can satisfy the rule. One comparison of all these clauses of all rules with the extremes
leaves few rules to evaluate in a calm market.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from app.candles.batch import BoolArray, FloatArray
from app.rules.evaluation.builder import Builder, ProgramClause
from app.rules.evaluation.slots import ProgramStep
from app.rules.language.functions import Kernel

_BOUNDED: Final[tuple[Kernel, ...]] = (np.greater, np.greater_equal)


class Bounds:
    """The clauses `column > constant` and `constant > column` (or >=) of all rules, as arrays.

    Each is kept in the form `extreme >= limit`, where the extremes are [greatest of each column | minus the
    least of each column].
    """

    def __init__(self, builder: Builder, clauses_by_rule: Sequence[Sequence[ProgramClause]]) -> None:
        self._rules = len(clauses_by_rule)
        columns = {cell: at for at, cell in enumerate(builder.columns)}
        found: list[tuple[int, int, float]] = []
        for rule, clauses in enumerate(clauses_by_rule):
            for clause in clauses:
                if len(clause.steps) == 1 and clause.steps[0].kernel in _BOUNDED:
                    limit = _limit(clause.steps[0], columns, builder.constants)
                    found += [(rule, *limit)] if limit else []
        self._rule = np.array([rule for rule, _, _ in found], np.intp)
        self._extreme = np.array([extreme for _, extreme, _ in found], np.intp)
        self._limit = np.array([limit for _, _, limit in found], np.float64)

    def possible(self, block: FloatArray) -> BoolArray:
        """Return which rules may be true in some row of `block`, shape (columns, rows), in the builder's order.

        A rule that is left out is certainly true nowhere; one that stays need not be true anywhere.
        """
        possible = np.ones(self._rules, np.bool_)
        if len(self._rule):
            extremes = np.concatenate((np.fmax.reduce(block, axis=1), -np.fmin.reduce(block, axis=1)))
            missed = ~(extremes[self._extreme] >= self._limit)
            possible[self._rule[missed]] = False
        return possible


def _limit(
    step: ProgramStep, columns: dict[int, int], constants: dict[int, float]
) -> tuple[int, float] | None:
    """Return (position among the extremes, limit) of a comparison of a column with a constant; None for others."""
    if step.left in columns and step.right in constants:
        return columns[step.left], constants[step.right]
    if step.left in constants and step.right in columns:
        return len(columns) + columns[step.right], -constants[step.left]
    return None
