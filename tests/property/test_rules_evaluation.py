"""Compiled evaluation equals a plain interpreter that knows nothing of trees, compilation or batches.

Expressions are generated as text together with a Python function of the same meaning, written from the
language's definition; minutes, gaps, forming updates, corrections, nulls and symbols are drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from app.market.metrics import MetricsBatch
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.explain import explain, values_of
from app.rules.rule import Rule
from tests.support.metric_rows import Row, metrics_batch

COLUMNS = ("price_change_5m", "quote_volume_5m", "close_1m")
WRITTEN = {"price_change_5m": "price_change_5m", "quote_volume_5m": "volume_5m", "close_1m": "price"}
VALUES = st.sampled_from([math.nan, 0.0, -0.0, 1.0, 1.5, 2.0, -3.0, 0.1, 1e9])

Number = Callable[["Look"], "float | None"]
Truth = Callable[["Look"], "bool | None"]


@dataclass(frozen=True)
class Look:
    """What an expression can see: one row, and the closed minutes of its symbol before it, by minute."""

    values: dict[str, float]
    minute: int
    closed: dict[int, dict[str, float]]

    def column(self, name: str) -> float | None:
        value = self.values[name]
        return None if math.isnan(value) else value

    def previous(self) -> Look | None:
        at = self.minute - 1
        return Look(self.closed[at], at, self.closed) if at in self.closed else None


def _apply(function: Callable[..., float | None], *operands: Number) -> Number:
    def value(look: Look) -> float | None:
        values = [operand(look) for operand in operands]
        if None in values:
            return None
        result = function(*values)
        return None if result is None or math.isnan(result) else result

    return value


def _previous(operand: Number) -> Number:
    def value(look: Look) -> float | None:
        earlier = look.previous()
        return None if earlier is None else operand(earlier)

    return value


ARITHMETIC = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: None if b == 0 else a / b,
}
COMPARISONS = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


@st.composite
def literals(draw) -> tuple[str, Number]:
    value = draw(st.sampled_from([0.0, 1.0, 1.5, 2.0, 250.0]))
    return str(value), lambda look: value


@st.composite
def columns(draw) -> tuple[str, Number]:
    name = draw(st.sampled_from(COLUMNS))
    return WRITTEN[name], lambda look: look.column(name)


def numbers() -> st.SearchStrategy[tuple[str, Number]]:
    leaves = columns() | literals()

    def grow(inner: st.SearchStrategy[tuple[str, Number]]) -> st.SearchStrategy[tuple[str, Number]]:
        def arithmetic(parts):
            (left, left_value), (right, right_value), operator = parts
            return f"({left} {operator} {right})", _apply(ARITHMETIC[operator], left_value, right_value)

        def function(parts):
            (left, left_value), (right, right_value), name = parts
            value = {"min": min, "max": max}[name]
            return f"{name}({left}, {right})", _apply(value, left_value, right_value)

        def unary(parts):
            (text, value), form = parts
            if form == "prev":
                return f"prev(price_change_5m + {text})", _previous(
                    _apply(ARITHMETIC["+"], lambda look: look.column("price_change_5m"), value)
                )
            return {"-": f"(-{text})", "abs": f"abs({text})"}[form], _apply(
                {"-": lambda a: -a, "abs": abs}[form], value
            )

        return (
            st.tuples(inner, inner, st.sampled_from(sorted(ARITHMETIC))).map(arithmetic)
            | st.tuples(inner, inner, st.sampled_from(["min", "max"])).map(function)
            | st.tuples(inner, st.sampled_from(["prev", "-", "abs"])).map(unary)
        )

    return st.recursive(leaves, grow, max_leaves=4).filter(lambda pair: "/ 0.0" not in pair[0])


def _comparison(parts) -> tuple[str, Truth]:
    (left, left_value), (right, right_value), operator = parts

    def truth(look: Look) -> bool | None:
        values = left_value(look), right_value(look)
        return None if None in values else COMPARISONS[operator](*values)

    return f"{left} {operator} {right}", truth


def _all(*operands: Truth) -> Truth:
    def truth(look: Look) -> bool | None:
        truths = [operand(look) for operand in operands]
        if any(found is False for found in truths):
            return False
        return None if None in truths else True

    return truth


def _not(operand: Truth) -> Truth:
    def truth(look: Look) -> bool | None:
        found = operand(look)
        return None if found is None else not found

    return truth


def _crossing(direction: str) -> tuple[str, Truth]:
    above = direction == "above"

    def at(look: Look | None, operator: str) -> bool | None:
        values = (None, None) if look is None else (look.column("close_1m"), look.column("quote_volume_5m"))
        return None if None in values else COMPARISONS[operator](*values)

    truth = _all(
        lambda look: at(look.previous(), "<=" if above else ">="),
        lambda look: at(look, ">" if above else "<"),
    )
    return f"crosses_{direction}(price, volume_5m)", truth


def conditions() -> st.SearchStrategy[tuple[str, Truth]]:
    compared = st.tuples(numbers(), numbers(), st.sampled_from(sorted(COMPARISONS))).map(_comparison)
    crossings = st.sampled_from(["above", "below"]).map(_crossing)

    def grow(inner: st.SearchStrategy[tuple[str, Truth]]) -> st.SearchStrategy[tuple[str, Truth]]:
        def logic(parts):
            (left, left_truth), (right, right_truth), operator = parts
            text = f"({left}) {operator} ({right})"
            if operator == "and":
                return text, _all(left_truth, right_truth)
            return text, _not(_all(_not(left_truth), _not(right_truth)))

        def negation(part):
            text, truth = part
            return f"not ({text})", _not(truth)

        both = st.tuples(inner, inner, st.sampled_from(["and", "or"])).map(logic)
        return both | inner.map(negation)

    grown = st.recursive(compared | crossings, grow, max_leaves=4)
    return grown.filter(lambda pair: any(name in pair[0] for name in WRITTEN.values()))


@st.composite
def market(draw) -> list[list[Row]]:
    """Batches of rows; each symbol's minute stays, goes on by one, or leaps over a gap."""
    minutes = dict.fromkeys(("AUSDT", "BUSDT", "CUSDT"), 0)
    batches = []
    for _ in range(draw(st.integers(1, 4))):
        rows = []
        for _ in range(draw(st.integers(1, 8))):
            symbol = draw(st.sampled_from(sorted(minutes)))
            minutes[symbol] += draw(st.sampled_from([0, 1, 1, 1, 2]))
            values = {name: draw(VALUES) for name in COLUMNS}
            closed = draw(st.sampled_from([True, True, False]))
            rows.append(Row(symbol, minutes[symbol], values, closed))
        batches.append(rows)
    return batches


FILTERS = st.none() | st.lists(st.sampled_from(["AUSDT", "BUSDT", "XUSDT"]), min_size=1).map(tuple)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(conditions(), min_size=1, max_size=5),
    market(),
    st.lists(st.sampled_from(["live", "close"])),
    st.lists(FILTERS),
)
def test_compiled_rules_find_what_a_plain_interpreter_finds(rules, batches, modes, filters):
    chosen = [modes[at] if at < len(modes) else "close" for at in range(len(rules))]
    symbols = [filters[at] if at < len(filters) else None for at in range(len(rules))]
    book = RuleBook.compile(
        [
            Rule(f"r{at}", text, "high", mode=chosen[at], symbols=symbols[at])
            for at, (text, _) in enumerate(rules)
        ],
        "live",
    )
    evaluator = Evaluator(book)
    closed: dict[str, dict[int, dict[str, float]]] = {}
    for rows in batches:
        expected = []
        for at, row in enumerate(rows):
            history = closed.setdefault(row.symbol, {})
            look = Look(dict(row.values), row.minute, dict(history))
            for position, (_, truth) in enumerate(rules):
                meant = symbols[position] is None or row.symbol in symbols[position]
                if meant and truth(look) and (row.closed or chosen[position] == "live"):
                    expected.append((at, position))
            if row.closed:
                history[row.minute] = dict(row.values)
        found = evaluator.evaluate(metrics_batch(rows))
        assert list(zip(found.row.tolist(), found.rule.tolist(), strict=True)) == expected


@settings(max_examples=200, deadline=None)
@given(conditions(), st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, VALUES)), min_size=1, max_size=4))
def test_an_explanation_has_the_truth_of_a_plain_interpreter(rule, minutes):
    text, truth = rule
    history = dict(enumerate(minutes[:-1]))
    expected = truth(Look(minutes[-1], len(minutes) - 1, history))
    batch = metrics_batch([Row("S", at, values) for at, values in enumerate(minutes)])
    clause = explain(Rule("r", text, "high"), [values_of(batch, row) for row in range(len(minutes))])
    assert clause.truth is expected
    assert bool(clause.failing()) == (clause.truth is not True)
    assert all(part.truth is not True for part in clause.failing())


@settings(max_examples=100, deadline=None)
@given(conditions(), market(), st.integers(0, 3), FILTERS)
def test_a_restored_evaluator_goes_on_as_if_never_stopped(rule, batches, cut, symbols):
    rules = [Rule("r", rule[0], "high", hold_s=60, symbols=symbols), Rule("s", rule[0], "high")]
    book = RuleBook.compile(rules, "live")
    steady, stopped = Evaluator(book), Evaluator(book)
    for at, rows in enumerate(batches):
        if at == cut:
            saved = stopped.snapshot()
            stopped = Evaluator(book)
            stopped.restore(saved)
        batch = metrics_batch(rows)
        first, second = steady.evaluate(batch), stopped.evaluate(batch)
        assert first.row.tolist() == second.row.tolist()
        assert first.rule.tolist() == second.rule.tolist()


@settings(max_examples=150, deadline=None)
@given(conditions(), st.lists(conditions(), min_size=4, max_size=4), market(), FILTERS)
def test_a_rule_that_stays_is_not_disturbed_by_others_that_come_and_go(rule, others, batches, symbols):
    staying = [Rule("held", rule[0], "high", hold_s=60), Rule("plain", rule[0], "high", symbols=symbols)]
    steady = Evaluator(RuleBook.compile(staying, "live"))
    changing = Evaluator(RuleBook.compile(staying, "live"))
    for at, (rows, (text, _)) in enumerate(zip(batches, others, strict=False)):
        passing = [
            Rule(f"passing_{at}", text, "low", hold_s=60 * (at % 2), symbols=("BUSDT",) if at else None)
        ]
        changing.swap(RuleBook.compile([*passing, *reversed(staying)], "live"))
        batch = metrics_batch(rows)
        assert found_by(steady, batch, staying) == found_by(changing, batch, staying)


def found_by(evaluator: Evaluator, batch: MetricsBatch, rules: list[Rule]) -> set[tuple[int, str]]:
    names = {rule.rule_type for rule in rules}
    found = evaluator.evaluate(batch)
    pairs = zip(found.row.tolist(), found.rule.tolist(), strict=True)
    return {(row, found.rules[at].rule_type) for row, at in pairs if found.rules[at].rule_type in names}
