"""The matches of a batch: which rules are true at which rows, and the values they saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.market.metrics import MetricsBatch
from app.rules.evaluation.program import Cells, run
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The true conditions of one batch, shape (matches,), by row, then by the rules' order in the book.

    row: row of the batch. rule: position in `book`, the evaluated one. cells: the computed values.
    """

    row: NDArray[np.intp]
    rule: NDArray[np.intp]
    book: RuleBook | None = None
    cells: Cells = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.row)

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self.book.rules if self.book is not None else ()

    def seen(self, rule: int, rows: Sequence[int]) -> list[dict[str, float | None]]:
        """Return the inputs of the rule at this position in each of these rows of the batch: canonical text of a
        metric, or of a part that looks at other minutes, and its value; None is null."""
        if self.book is None:
            return [{} for _ in rows]
        compiled = self.book.compiled[rule]
        with np.errstate(all="ignore"):
            run(self.cells, compiled.look_steps)
        if any(look.condition for look in compiled.looks):
            looks = [(look, self.cells[look.cell]) for look in compiled.looks]
            return [{look.text: look.told(column.item(row)) for look, column in looks} for row in rows]
        # as `told`; a burst of alerts waits for these values
        values = [(look.text, self.cells[look.cell].item) for look in compiled.looks]
        return [
            {text: value if (value := value_at(row)) - value == 0.0 else None for text, value_at in values}
            for row in rows
        ]

    def keys(self, batch: MetricsBatch) -> list[tuple[str, str]]:
        """Return the distinct (rule_type, symbol) among the matches, in order of first match."""
        if not len(self):
            return []
        pairs = zip(self.rule.tolist(), batch.symbol_index[self.row].tolist(), strict=True)
        return [(self.rules[rule].rule_type, batch.symbols[symbol]) for rule, symbol in dict.fromkeys(pairs)]


NO_MATCHES: Final = Matches(np.zeros(0, np.intp), np.zeros(0, np.intp))
