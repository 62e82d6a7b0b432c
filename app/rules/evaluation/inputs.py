"""The inputs of a condition at a minute: its metrics, and its parts that look at other minutes."""

from __future__ import annotations

from collections.abc import Sequence

from app.market.metrics import MetricsBatch
from app.rules.evaluation.builder import Builder
from app.rules.evaluation.rulebook import looks_in
from app.rules.evaluation.slot_memory import Reader
from app.rules.language.tree import ConditionNode


def inputs_of(condition: ConditionNode, batches: Sequence[MetricsBatch]) -> dict[str, float | None]:
    """Return the inputs at the last row of the last batch, by canonical text; 1 or 0 for a condition; None is null.

    batches: rows of one symbol in order of time, without revisions.
    """
    builder = Builder()
    looks = looks_in(condition, builder)
    reader = Reader(builder)
    cells = [reader.read(batch) for batch in batches][-1]
    return {look.text: look.told(cells[look.cell].item(-1)) for look in looks}
