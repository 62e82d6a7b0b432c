"""Functions over time equal a plain recomputation: gaps, late and corrected candles, forming ones, nulls, restarts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.market.metrics import MetricsBatch
from app.rules.evaluation.builder import Builder
from app.rules.evaluation.program import run
from app.rules.evaluation.slot_memory import Reader
from app.rules.language.parser import parse_condition, parse_number
from app.rules.language.tree import CONDITION_KINDS
from tests.support.metric_rows import Row, metrics_batch

VALUES = st.sampled_from([math.nan, 0.0, 1.0, 1.0, 2.0, -3.0, 0.1, 1e6])


@dataclass
class Symbol:
    """What a plain recomputation knows: the value of each closed minute."""

    closed: dict[int, float]

    def window(self, minute: int, now: float, length: int) -> list[float]:
        return [*(self.at(minute - back) for back in range(length - 1, 0, -1)), now]

    def at(self, minute: int) -> float:
        return self.closed.get(minute, math.nan)


def _null(values: list[float]) -> bool:
    return any(math.isnan(value) for value in values)


def _deviation(values: list[float]) -> float:
    mean = fmean(values)
    spread = math.sqrt(fmean([(value - mean) ** 2 for value in values]))
    return spread if max(values) != min(values) else 0.0


def _true(value: float) -> bool | None:
    return None if math.isnan(value) else value > 0.5


def _any(truths: list[bool | None]) -> float:
    return 1.0 if True in truths else 0.5 if None in truths else 0.0


def _all(truths: list[bool | None]) -> float:
    return 0.0 if False in truths else 0.5 if None in truths else 1.0


def _score(symbol: Symbol, minute: int, now: float, length: int) -> float:
    before = [symbol.at(minute - back) for back in range(1, length + 1)]
    if _null([*before, now]) or not _deviation(before):
        return math.nan
    return (now - fmean(before)) / _deviation(before)


def _streak(symbol: Symbol, minute: int, now: float) -> float:
    if _true(now) is not True:
        return math.nan if _true(now) is None else 0.0
    length = 1
    while length < 1440 and _true(symbol.at(minute - length)):
        length += 1
    return float(length)


def _since(symbol: Symbol, minute: int, now: float) -> float:
    if _true(now):
        return 0.0
    found = (minute - at for at, value in symbol.closed.items() if at < minute and _true(value))
    back = min(found, default=1441)
    return float(back) if back <= 1440 else math.nan


def _over(length: int, function: Callable[[list[float]], float]) -> Callable[[Symbol, int, float], float]:
    def value(symbol: Symbol, minute: int, now: float) -> float:
        values = symbol.window(minute, now, length)
        return math.nan if _null(values) else function(values)

    return value


def _kleene(length: int, function: Callable[[list[bool | None]], float]) -> Callable[..., float]:
    return lambda symbol, minute, now: function([_true(x) for x in symbol.window(minute, now, length)])


PLAIN: dict[str, Callable[[Symbol, int, float], float]] = {
    "ago(price, 3m)": lambda symbol, minute, now: symbol.at(minute - 3),
    "highest(price, 4m)": _over(4, max),
    "highest(price, 21m)": _over(21, max),
    "lowest(price, 7m)": _over(7, min),
    "average(price, 1m)": _over(1, fmean),
    "average(price, 13m)": _over(13, fmean),
    "stdev(price, 9m)": _over(9, _deviation),
    "zscore(price, 6m)": lambda symbol, minute, now: _score(symbol, minute, now, 6),
    "count(price > 0.5, 18m)": _over(18, lambda values: float(sum(value > 0.5 for value in values))),
    "within(price > 0.5, 5m)": _kleene(5, _any),
    "always(price > 0.5, 4m)": _kleene(4, _all),
    "streak(price > 0.5)": _streak,
    "since(price > 0.5)": _since,
    "average(ago(price, 2m), 3m)": lambda symbol, minute, now: _over(3, fmean)(
        Symbol({at: symbol.at(at - 2) for at in symbol.closed}), minute, symbol.at(minute - 2)
    ),
}


class Reading:
    """All of the functions, read over batches as the rules' evaluation reads them."""

    def __init__(self) -> None:
        builder = Builder()
        nodes = [
            parse_condition(text) if text.startswith(("within", "always")) else parse_number(text)
            for text in PLAIN
        ]
        self._cells = [
            builder.look(node) if isinstance(node, CONDITION_KINDS) else builder.number(node)
            for node in nodes
        ]
        self._steps = [step for cell in self._cells for step in builder.steps_for(cell)]
        self._reader = Reader(builder)

    def read(self, batch: MetricsBatch) -> list[dict[str, float]]:
        cells = self._reader.read(batch)
        run(cells, self._steps)
        return [
            {text: float(cells[cell][row]) for text, cell in zip(PLAIN, self._cells, strict=True)}
            for row in range(len(batch))
        ]


@st.composite
def market(draw) -> list[list[Row]]:
    """Batches of rows as the market gives them: minutes in order, gaps, forming rows, and revisions: a late or
    corrected minute with every later known one again."""
    minutes, closed = dict.fromkeys(("A", "B"), 100), {"A": {}, "B": {}}
    batches = []
    for _ in range(draw(st.integers(1, 12))):
        rows = []
        for symbol in draw(st.sampled_from([("A",), ("B",), ("A", "B")])):
            known = closed[symbol]
            if known and draw(st.integers(0, 4)) == 0:
                since = draw(st.integers(max(0, minutes[symbol] - 30), minutes[symbol] - 1))
                known[since] = draw(VALUES)
                rows += [
                    Row(symbol, at, {"close_1m": known[at]})
                    for at in range(since, minutes[symbol])
                    if at in known
                ]
            for _ in range(draw(st.integers(1, 8))):
                minutes[symbol] += draw(st.sampled_from([0, 0, 0, 0, 0, 1, 2, 70]))
                if draw(st.integers(0, 3)) == 0:
                    rows.append(Row(symbol, minutes[symbol], {"close_1m": draw(VALUES)}, closed=False))
                known[minutes[symbol]] = draw(VALUES)
                rows.append(Row(symbol, minutes[symbol], {"close_1m": known[minutes[symbol]]}))
                minutes[symbol] += 1
        batches.append(rows)
    return batches


@settings(max_examples=60, deadline=None)
@given(market())
def test_every_function_equals_a_plain_recomputation(batches):
    reading, symbols = Reading(), {"A": Symbol({}), "B": Symbol({})}
    for rows in batches:
        found = reading.read(metrics_batch(rows))
        for row, values in zip(rows, found, strict=True):
            symbol, now = symbols[row.symbol], row.values["close_1m"]
            for text, plain in PLAIN.items():
                expected = plain(symbol, row.minute, now)
                assert values[text] == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True), (text, row)
            if row.closed:
                symbol.closed[row.minute] = now


@settings(max_examples=20, deadline=None)
@given(st.lists(VALUES.filter(lambda value: not math.isnan(value)), min_size=40, max_size=60), st.data())
def test_no_value_depends_on_where_history_began_or_on_how_it_was_cut(values, data):
    rows = [Row("A", at, {"close_1m": value}) for at, value in enumerate(values)]
    whole = Reading().read(metrics_batch(rows))[-1]
    began, cut = data.draw(st.integers(0, 15)), data.draw(st.integers(20, 35))
    late = Reading()
    late.read(metrics_batch(rows[began:cut]))
    found = late.read(metrics_batch(rows[cut:]))[-1]
    for text in PLAIN:
        if not text.startswith(("streak", "since")):
            # to the bit: null is never equal to itself
            assert repr(found[text]) == repr(whole[text]), text
