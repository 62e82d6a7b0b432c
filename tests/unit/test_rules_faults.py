"""A rule that raises costs that rule: while it is compiled, while it is evaluated, and as a row of the table."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest

import app.rules.language.functions
from app.database.rule_store import stored_rules
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule
from app.rules.updates import update_rules
from tests.support.metric_rows import Row, metrics_batch

GOOD = Rule("good", "price > 1", "high")
CROSSING = Rule("crossing", "crosses_above(price, 5)", "high")
BREAKING = {
    "now": Rule("breaking", "abs(price) > 1", "high"),
    "before": Rule("breaking", "price > 1 and prev(abs(price)) > 1", "high"),
    "long before": Rule("breaking", "prev(prev(abs(price)) + price) > 1", "high"),
    "while it holds": Rule("breaking", "abs(price) > 1", "high", hold_s=60),
}


class Broken(Exception):
    pass


def broken(*values):
    raise Broken("no such kernel")


def frame(minute: int, price: float):
    return metrics_batch([Row("A", minute, {"close_1m": price}), Row("B", minute, {"close_1m": 0.0})])


def names(evaluator: Evaluator, batch) -> list[str]:
    return [evaluator.book.rules[at].rule_type for at in evaluator.evaluate(batch).rule.tolist()]


@pytest.mark.parametrize("breaking", BREAKING.values(), ids=BREAKING)
def test_a_rule_that_raises_is_left_out_and_the_others_go_on(breaking, monkeypatch):
    monkeypatch.setitem(app.rules.language.functions.KERNELS, "abs", broken)
    evaluator = Evaluator(RuleBook.compile([GOOD, breaking, CROSSING], "close"))
    found = [names(evaluator, frame(minute, price)) for minute, price in enumerate([4.0, 6.0, 7.0])]
    assert found == [["good"], ["good", "crossing"], ["good"]]
    assert [(fault.rule, fault.error) for fault in evaluator.faults] == [(breaking, "Broken: no such kernel")]


def test_a_book_without_the_rule_that_raised_keeps_what_the_others_remember(monkeypatch):
    monkeypatch.setitem(app.rules.language.functions.KERNELS, "abs", broken)
    evaluator = Evaluator(RuleBook.compile([BREAKING["before"], CROSSING], "close"))
    assert names(evaluator, frame(0, 4.0)) == []
    evaluator.swap(RuleBook.compile([CROSSING], "close"))
    assert names(evaluator, frame(1, 6.0)) == ["crossing"]
    assert evaluator.faults == ()


def test_a_rule_that_cannot_be_compiled_is_left_out_of_the_book(monkeypatch):
    monkeypatch.delitem(app.rules.language.functions.KERNELS, "abs")
    book = RuleBook.compile([BREAKING["now"], GOOD], "close")
    assert book.rules == (GOOD,)
    assert [(fault.rule.rule_type, fault.error) for fault in book.faults] == [("breaking", "KeyError: 'abs'")]
    assert names(Evaluator(book), frame(0, 2.0)) == ["good"]


class Strange:
    """What a column of another type might hold."""

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError("not comparable")

    __hash__ = None  # type: ignore[assignment]  # reason: nor can it be hashed


@pytest.mark.parametrize(
    "change",
    [
        {"cooldown_s": math.nan},
        {"cooldown_s": Decimal("NaN")},
        {"cooldown_s": 10**400},
        {"hold_s": "1"},
        {"version": None},
        {"rule_type": math.nan},
        {"rule_type": None},
        {"rule_type": ["steep"]},
        {"severity": "x" * 5_000_000},
        {"severity": Strange()},
        {"mode": {"a": 1}},
        {"mode": "y" * 5_000_000},
        {"enabled": "yes"},
        {"expression": None},
        {"expression": b"price > 1"},
        {"expression": "price > 1 and " * 100_000},
        {"expression": "x" * 5_000_000},
        {"description": "z" * 5_000_000},
        {"symbols": [["A"]]},
        {"symbols": [None]},
        {"symbols": {"A": 1}},
        {"symbols": ["A" * 5_000_000]},
        {"symbols": 7},
        {"z" * 5_000_000: 1},
    ],
    ids=lambda change: next(iter(change))[:12],
)
def test_a_row_that_is_broken_in_any_way_costs_that_rule_alone_and_is_told_shortly(change):
    good = {"rule_type": "good", "expression": "price > 1", "severity": "high"}
    row = {"rule_type": "steep", "expression": "price > 2", "severity": "high", **change}
    stored = stored_rules([good, row])
    assert [rule.rule_type for rule in stored.rules] == ["good"]
    assert len(stored.refused) == 1
    update = update_rules([GOOD], [row, good])
    assert update.rules == (GOOD,)
    for refused in (stored.refused, update.refused):
        [(name, told)] = refused.items()
        assert len(name) <= 100
        assert len(told) <= 1_000
