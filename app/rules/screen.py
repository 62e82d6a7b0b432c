"""Screener queries: which rows of a batch satisfy an expression, and in what order."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import FloatArray
from app.errors import RuleError
from app.market.metrics import MetricsBatch
from app.rules.parser import parse_condition, parse_number
from app.rules.program import Builder, Cells, Gather, run
from app.rules.tree import Node, uses_previous


def screen(
    batch: MetricsBatch,
    where: str,
    sort: str | None = None,
    order: Literal["asc", "desc"] = "desc",
    limit: int | None = None,
) -> NDArray[np.intp]:
    """The rows that satisfy `where`, by the number `sort` (nulls last, equals in row order) or in row order.

    `batch` holds one row per symbol: it is the universe that rank() and mean() look at. Raises RuleError for
    a faulty expression and for prev() and crossings, which need the minute before.
    """
    condition = parse_condition(where, universe=True)
    _refuse_previous(condition)
    builder = Builder()
    truth = builder.condition(condition)
    key: int | None = None
    if sort is not None:
        number = parse_number(sort, universe=True)
        _refuse_previous(number)
        key = builder.number(number)
    cells = _fill(builder, batch, [truth] if key is None else [truth, key])
    rows = np.flatnonzero(np.broadcast_to(cells[truth], len(batch)))
    if key is not None:
        rows = rows[_sorted(np.broadcast_to(cells[key], len(batch))[rows], order)]
    return rows if limit is None else rows[:limit]


def _fill(builder: Builder, batch: MetricsBatch, wanted: list[int]) -> Cells:
    cells: Cells = [builder.constants.get(cell) for cell in range(builder.width)]
    Gather(builder.columns).into(cells, batch.values, batch.columns)
    with np.errstate(all="ignore"):
        for cell in wanted:
            run(cells, builder.steps_for(cell))
    return cells


def _sorted(values: FloatArray, order: Literal["asc", "desc"]) -> NDArray[np.intp]:
    return np.argsort(values if order == "asc" else -values, kind="stable")


def _refuse_previous(node: Node) -> None:
    if uses_previous(node):
        raise RuleError("a screener query sees one moment: prev() and crossings work in rules", node.position)
