"""Screener queries: which rows of a batch satisfy an expression, and their order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import FloatArray
from app.errors import RuleError
from app.market.comovement import MinuteReturns
from app.market.metrics import MetricsBatch
from app.rules.evaluation.builder import Builder
from app.rules.evaluation.program import run
from app.rules.evaluation.slot_memory import Reader
from app.rules.language.canonical_text import to_text
from app.rules.language.parser import parse_condition, parse_number
from app.rules.language.tree import (
    Crossing,
    Lately,
    Node,
    NumberNode,
    OverTime,
    Previous,
    Universe,
    WithReference,
)
from app.rules.language.walks import columns_of, looks_of, uses_previous, uses_time, walk

Order = Literal["asc", "desc"]


class ScreenedSymbol(TypedDict):
    """timestamp: RFC 3339. values: of the metrics that the query names, and of its functions over all symbols; NaN or
    None for an unknown one."""

    symbol: str
    timestamp: str
    price: float | None
    values: dict[str, float | None]


class ScreenAnswer(TypedDict):
    """The symbols that satisfy a query. matched: how many satisfy it, listed or not. evaluated: how many were looked
    at. market_minute: the minute of functions over all symbols, None before there is one; absent from a query without
    them."""

    symbols: list[ScreenedSymbol]
    matched: int
    evaluated: int
    market_minute: NotRequired[str | None]


@dataclass(frozen=True, slots=True)
class MarketMinute:
    """One closed minute of all symbols. returns: of this minute and those before it, for corr() and beta(), which are
    null without."""

    rows: MetricsBatch
    returns: MinuteReturns | None = None


class _BuilderApart(Builder):
    """Takes functions over all symbols as given: their minute is not that of the other values."""

    def __init__(self) -> None:
        super().__init__()
        self.over_all: dict[int, Universe] = {}

    def number(self, node: NumberNode) -> int:
        if not isinstance(node, Universe):
            return super().number(node)
        cell, new = self._cell("over all", to_text(node))
        if new:
            self.over_all[cell] = node
        return cell


class Query:
    """A screener query. where: a condition. sort: a number. Raises RuleError with the position in the expression at
    fault.

    over_minute: functions over all symbols use the minute that `rows` is given, not its batch. Before `rows`, `see`
    the rows of the minutes before, if the query looks back.
    """

    def __init__(self, where: str, sort: str | None = None, *, over_minute: bool = False) -> None:
        condition = parse_condition(where)
        number = None if sort is None else parse_number(sort)
        self.nodes: tuple[Node, ...] = (condition,) if number is None else (condition, number)
        for node in self.nodes:
            _refuse_past_market(node, over_minute)
        builder = _BuilderApart() if over_minute else Builder()
        self._over_all = builder.over_all if isinstance(builder, _BuilderApart) else {}
        self._truth = builder.condition(condition)
        self._key = None if number is None else builder.number(number)
        self._steps = [
            step for cell in (self._truth, self._key) if cell is not None for step in builder.steps_for(cell)
        ]
        self._reader = Reader(builder)

    @property
    def columns(self) -> tuple[str, ...]:
        """The metrics it looks at, in order of appearance."""
        return tuple(dict.fromkeys(name for node in self.nodes for name in columns_of(node)))

    @property
    def looks_back(self) -> bool:
        return any(
            uses_previous(node)
            or uses_time(node)
            or (not self._over_all and any(isinstance(found, WithReference) for found in walk(node)))
            for node in self.nodes
        )

    def see(self, batch: MetricsBatch) -> None:
        """Remember the closed rows of a batch, which come in order of time."""
        if self.looks_back:
            self._reader.read(batch)

    def rows(
        self,
        batch: MetricsBatch,
        order: Order = "desc",
        limit: int | None = None,
        market: MarketMinute | None = None,
    ) -> NDArray[np.intp]:
        """Return the rows that satisfy the condition, in order of the number (nulls last, equals in row order) or in
        row order.

        batch: one row per symbol. market: the minute of functions over all symbols, if the query takes one; for a
        symbol that is not in it they are null.
        """
        cells = self._reader.read(batch)
        if self._over_all and market is not None:
            known = names_of(market.rows)
            found = _values_of(list(self._over_all.values()), market)
            for cell, call in self._over_all.items():
                values = dict(zip(known, found[call].tolist(), strict=True))
                cells[cell] = np.array([values.get(name, np.nan) for name in names_of(batch)], np.float64)
        with np.errstate(all="ignore"):
            run(cells, self._steps)
        rows = np.flatnonzero(np.broadcast_to(cells[self._truth], len(batch)))
        if self._key is not None:
            rows = rows[_sorted(np.broadcast_to(cells[self._key], len(batch))[rows], order)]
        return rows if limit is None else rows[:limit]


def screen(
    batch: MetricsBatch,
    where: str,
    sort: str | None = None,
    order: Order = "desc",
    limit: int | None = None,
    past: Iterable[MetricsBatch] = (),
) -> NDArray[np.intp]:
    """Return the rows of one moment that satisfy a query, see `Query.rows`. past: rows of the minutes before, if the
    query looks back: without them these parts are null. Raises RuleError for a faulty expression."""
    query = Query(where, sort)
    for before in past:
        query.see(before)
    return query.rows(batch, order, limit)


def values_over_all(nodes: Iterable[Node], market: MarketMinute) -> dict[str, dict[str, float]]:
    """Return the values of the functions over all symbols in these trees, by the call's text and the symbol."""
    calls = dict.fromkeys(look for node in nodes for look in looks_of(node) if isinstance(look, Universe))
    names = names_of(market.rows)
    return {
        to_text(call): dict(zip(names, values.tolist(), strict=True))
        for call, values in _values_of(list(calls), market).items()
    }


def _values_of(calls: Sequence[Universe], market: MarketMinute) -> dict[Universe, FloatArray]:
    """Return the value of each call for each row of the market."""
    builder, rows = Builder(), market.rows
    wanted = {call: builder.number(call) for call in calls}
    cells = Reader(builder).read(rows)
    for cell, call in builder.moving_with.items():
        cells[cell] = np.full(len(rows), np.nan)
        if market.returns is not None and len(rows):
            minute_ms = int(rows.open_time_ms[0])
            moved = market.returns.comovement(call.reference, minute_ms, call.minutes, names_of(rows))
            cells[cell] = moved.correlation if call.name == "corr" else moved.beta
    with np.errstate(all="ignore"):
        for cell in wanted.values():
            run(cells, builder.steps_for(cell))
    return {call: np.broadcast_to(cells[cell], len(rows)) for call, cell in wanted.items()}


def names_of(batch: MetricsBatch) -> list[str]:
    """Return the symbol of each row."""
    return [batch.symbols[index] for index in batch.symbol_index.tolist()]


def _sorted(values: FloatArray, order: Order) -> NDArray[np.intp]:
    return np.argsort(values if order == "asc" else -values, kind="stable")


def _refuse_past_market(root: Node, over_minute: bool) -> None:
    """Raise RuleError for functions over all symbols in the past, which is read symbol by symbol."""
    for node in walk(root):
        if over_minute and isinstance(node, Universe) and (uses_previous(node) or uses_time(node)):
            raise RuleError(
                "a screener query knows all symbols at the last sealed minute only: "
                f"`{node.name}` cannot look back (at character {node.position + 1})",
                node.position,
            )
        looks_back = isinstance(node, Previous | Crossing | OverTime | Lately)
        if looks_back and any(isinstance(inner, Universe) for inner in walk(node)):
            raise RuleError(
                "a screener query knows all symbols at its own moment only: a function of all symbols cannot stand "
                f"inside one that looks back (at character {node.position + 1})",
                node.position,
            )
