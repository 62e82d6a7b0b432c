"""When rules are evaluated and on what: modes, symbols, repeats, the minute before, swaps and snapshots."""

from __future__ import annotations

import numpy as np
import pytest

from app.errors import BadFrame, RuleError
from app.market.fields import METRIC_COLUMNS
from app.market.metrics import MetricsBatch
from app.market.rings.packing import encode
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.matches import NO_MATCHES
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule
from app.rules.screen import screen
from tests.support.metric_rows import Row, metrics_batch

UP = {"price_change_5m": 2.0, "close_1m": 10.0}
DOWN = {"price_change_5m": -2.0, "close_1m": 9.0}
RISING = Rule("rising", "price_change_5m > 1", "high")


def evaluator(*rules: Rule, mode="live") -> Evaluator:
    return Evaluator(RuleBook.compile(rules, mode))


def pairs(matches) -> list[tuple[int, str]]:
    return [(row, matches.rules[rule].rule_type) for row, rule in zip(matches.row, matches.rule, strict=True)]


def test_live_rules_see_every_row_and_close_rules_closed_rows_only():
    rows = [Row("A", 0, UP, closed=False), Row("A", 0, UP), Row("B", 0, UP, closed=False), Row("B", 0, DOWN)]
    live = Rule("live", "price_change_5m > 1", "high", mode="live")
    close = Rule("close", "price_change_5m > 1", "high", mode="close")
    batch = metrics_batch(rows)
    assert pairs(evaluator(close, live).evaluate(batch)) == [
        (0, "live"),
        (1, "close"),
        (1, "live"),
        (2, "live"),
    ]
    assert pairs(evaluator(RISING, mode="close").evaluate(batch)) == [(1, "rising")]
    assert pairs(evaluator(RISING, mode="live").evaluate(batch)) == [
        (0, "rising"),
        (1, "rising"),
        (2, "rising"),
    ]


def test_matches_come_in_order_of_rows_then_of_rules():
    other = Rule("other", "price > 1", "info")
    batch = metrics_batch([Row("A", 0, UP), Row("B", 0, DOWN), Row("A", 1, UP)])
    expected = [(0, "other"), (0, "rising"), (1, "other"), (2, "other"), (2, "rising")]
    matches = evaluator(other, RISING).evaluate(batch)
    assert pairs(matches) == expected
    assert matches.keys(batch) == [("other", "A"), ("rising", "A"), ("other", "B")]


def test_a_rule_for_some_symbols_ignores_the_others():
    rule = Rule("few", "price_change_5m > 1", "high", symbols=("B", "NOTLISTED"))
    found = evaluator(rule)
    assert pairs(found.evaluate(metrics_batch([Row("A", 0, UP), Row("B", 0, UP)]))) == [(1, "few")]
    assert pairs(found.evaluate(metrics_batch([Row("B", 1, UP), Row("C", 1, UP)]))) == [(0, "few")]


def test_an_empty_batch_or_book_matches_nothing():
    assert evaluator(RISING).evaluate(metrics_batch([])) is NO_MATCHES
    assert evaluator().evaluate(metrics_batch([Row("A", 0, UP)])) is NO_MATCHES
    assert NO_MATCHES.keys(metrics_batch([])) == []


def test_a_column_that_the_frame_does_not_carry_is_null():
    without = tuple(name for name in METRIC_COLUMNS if name != "price_change_5m")
    rules = evaluator(RISING, Rule("priced", "price > 1", "info"))
    assert pairs(rules.evaluate(metrics_batch([Row("A", 0, {"close_1m": 10.0})], without))) == [(0, "priced")]
    assert pairs(rules.evaluate(metrics_batch([Row("A", 1, UP)]))) == [(0, "rising"), (0, "priced")]
    reordered = tuple(reversed(METRIC_COLUMNS))
    assert pairs(rules.evaluate(metrics_batch([Row("A", 2, UP)], reordered))) == [
        (0, "rising"),
        (0, "priced"),
    ]


def test_the_values_of_a_batch_may_be_read_only():
    batch = metrics_batch([Row("A", 0, UP)])
    batch.values.setflags(write=False)
    without = metrics_batch([Row("A", 1, UP)], ("close_1m", "price_change_5m"))
    without.values.setflags(write=False)
    rule = Rule("rule", "price > 1 and not (volume_5m > 0 and price < 0)", "high")
    assert len(evaluator(rule).evaluate(batch)) == 1
    assert len(evaluator(rule).evaluate(without)) == 1


def prices(symbol: str, *closes: float, start: int = 0, closed: bool = True) -> list[Row]:
    return [Row(symbol, start + at, {"close_1m": close}, closed) for at, close in enumerate(closes)]


JUMP = Rule("jump", "price > 1.5 * prev(price)", "high")


def test_prev_is_the_closed_minute_before_within_and_across_frames():
    found = evaluator(JUMP)
    assert pairs(found.evaluate(metrics_batch(prices("A", 10, 20, 21)))) == [(1, "jump")]
    assert pairs(found.evaluate(metrics_batch(prices("A", 40, start=3) + prices("B", 40)))) == [(0, "jump")]
    assert pairs(found.evaluate(metrics_batch(prices("B", 80, start=1)))) == [(0, "jump")]


def test_prev_of_a_forming_minute_is_the_closed_one_not_an_earlier_update():
    found = evaluator(JUMP)
    forming = [
        *prices("A", 10),
        *prices("A", 14, start=1, closed=False),
        *prices("A", 16, start=1, closed=False),
    ]
    assert pairs(found.evaluate(metrics_batch(forming))) == [(2, "jump")]
    assert pairs(found.evaluate(metrics_batch(prices("A", 12, start=1)))) == []
    assert pairs(found.evaluate(metrics_batch(prices("A", 17, start=2, closed=False)))) == []
    assert pairs(found.evaluate(metrics_batch(prices("A", 19, start=2, closed=False)))) == [(0, "jump")]


def test_prev_is_null_after_a_missing_minute():
    found = evaluator(JUMP)
    found.evaluate(metrics_batch(prices("A", 10)))
    assert pairs(found.evaluate(metrics_batch(prices("A", 100, start=2)))) == []
    assert pairs(found.evaluate(metrics_batch(prices("A", 200, start=3)))) == [(0, "jump")]


def test_a_frame_evaluated_again_gives_its_newest_minute_the_same_matches():
    found = evaluator(JUMP)
    found.evaluate(metrics_batch(prices("A", 10)))
    second = metrics_batch(prices("A", 20, start=1))
    assert pairs(found.evaluate(second)) == pairs(found.evaluate(second)) == [(0, "jump")]
    assert pairs(found.evaluate(metrics_batch(prices("A", 29, start=2)))) == []


def test_a_correction_of_the_newest_minute_is_what_the_next_minute_sees():
    found = evaluator(JUMP)
    found.evaluate(metrics_batch(prices("A", 10, 20)))
    assert pairs(found.evaluate(metrics_batch(prices("A", 12, start=1)))) == []
    assert pairs(found.evaluate(metrics_batch(prices("A", 20, start=2)))) == [(0, "jump")]


def test_minutes_evaluated_again_after_a_late_candle_see_each_other_and_the_next_frame_sees_them():
    found = evaluator(JUMP)
    found.evaluate(metrics_batch(prices("A", 10, 10, 10, 10)))
    revised = metrics_batch(prices("A", 30, 50, 76, start=1))
    assert pairs(found.evaluate(revised)) == [(1, "jump"), (2, "jump")]
    assert pairs(found.evaluate(metrics_batch(prices("A", 74, start=3)))) == []
    assert pairs(found.evaluate(metrics_batch(prices("A", 112, start=4)))) == [(0, "jump")]


def test_a_late_minute_right_before_the_newest_is_what_a_repeat_of_the_newest_sees():
    found = evaluator(JUMP)
    found.evaluate(metrics_batch(prices("A", 10) + prices("A", 30, start=2)))
    assert pairs(found.evaluate(metrics_batch(prices("A", 10, start=1)))) == []
    assert pairs(found.evaluate(metrics_batch(prices("A", 30, start=2)))) == [(0, "jump")]


def test_prev_within_prev_looks_two_minutes_back():
    found = evaluator(Rule("two", "price > 1.5 * prev(prev(price)) and price < 1.5 * prev(price)", "high"))
    assert pairs(found.evaluate(metrics_batch(prices("A", 10, 13, 16)))) == [(2, "two")]


HELD = Rule("held", "price > 1", "high", hold_s=60, mode="close")


def test_a_frame_in_which_a_rule_is_true_nowhere_ends_its_hold():
    found = evaluator(HELD)
    for minute, close, expected in [(0, 2, []), (1, 0.5, []), (2, 2, []), (3, 2, [(0, "held")])]:
        assert pairs(found.evaluate(metrics_batch(prices("A", close, start=minute)))) == expected


def test_a_minute_from_before_the_last_one_neither_holds_nor_ends_a_hold():
    found = evaluator(HELD)
    found.evaluate(metrics_batch(prices("A", 2, 2, 2)))
    assert pairs(found.evaluate(metrics_batch(prices("A", 2, start=1)))) == []
    assert pairs(found.evaluate(metrics_batch(prices("A", 0.5, start=0)))) == []
    assert pairs(found.evaluate(metrics_batch(prices("A", 2, start=3)))) == [(0, "held")]


def test_a_swapped_book_keeps_what_it_shares_with_the_old_one():
    held = Rule("held", "price > 1", "high", hold_s=60, mode="close")
    found = evaluator(JUMP, held)
    found.evaluate(metrics_batch(prices("A", 10)))
    reworded = Rule("leap", "price > 2 * prev(price)", "info", version=2)
    renamed_hold = Rule("other", "price > 1", "high", hold_s=60, mode="close")
    book = RuleBook.compile([RISING, reworded, held, renamed_hold], "live")
    found.swap(book)
    assert found.book is book
    assert pairs(found.evaluate(metrics_batch(prices("A", 25, start=1)))) == [(0, "leap"), (0, "held")]
    assert pairs(found.evaluate(metrics_batch(prices("A", 26, start=2)))) == [(0, "held"), (0, "other")]


def test_an_expression_that_a_swap_brings_in_is_null_until_its_second_minute():
    found = evaluator(RISING)
    found.evaluate(metrics_batch(prices("A", 10)))
    found.swap(RuleBook.compile([JUMP], "live"))
    assert pairs(found.evaluate(metrics_batch(prices("A", 20, start=1)))) == []
    assert pairs(found.evaluate(metrics_batch(prices("A", 40, start=2)))) == [(0, "jump")]


def test_a_snapshot_restores_into_a_new_evaluator_of_other_rules():
    held = Rule("held", "price > 1", "high", hold_s=60)
    first, second = evaluator(JUMP, held), evaluator(JUMP, held, RISING)
    first.evaluate(metrics_batch(prices("A", 10) + prices("B", float("nan"))))
    second.restore(first.snapshot())
    rows = prices("C", 9) + prices("B", 20, start=1) + prices("A", 20, start=1)
    assert pairs(second.evaluate(metrics_batch(rows))) == [(2, "jump"), (2, "held")]


def test_a_snapshot_of_another_version_is_refused():
    with pytest.raises(BadFrame, match="version 99"):
        evaluator(RISING).restore(encode("rules", 99, {}, {}))


def test_each_distinct_part_of_a_book_is_compiled_once():
    rules = [
        Rule(f"rule_{at}", f"price / ema_20_15m > 1 and volume_5m > {at}", "high") for at in range(2, 52)
    ]
    one = len(RuleBook.compile(rules[:1], "live").template)
    assert len(RuleBook.compile(rules, "live").template) == one + 2 * 49


def test_a_query_sorts_its_rows_with_nulls_last():
    closes = {"A": 5.0, "B": float("nan"), "C": 9.0, "D": 5.0}
    batch = metrics_batch(
        [Row(symbol, 0, {"close_1m": close, "low_1m": 1.0}) for symbol, close in closes.items()]
    )

    def symbols(*query, **options) -> str:
        return "".join(batch.symbol_of(row) for row in screen(batch, *query, **options))

    assert symbols("low > 0") == "ABCD"
    assert symbols("low > 0", "price") == "CADB"
    assert symbols("low > 0", "price", order="asc") == "ADCB"
    assert symbols("price > 1", "-price", limit=2) == "AD"
    assert symbols("price > 1", "2") == "ACD"
    assert symbols("2 > 1") == "ABCD"
    assert symbols("1 > 2 or low < 0") == ""


def test_a_query_sees_the_minutes_before_that_it_is_given():
    def minute(at: int, **closes: float) -> MetricsBatch:
        return metrics_batch([Row(symbol, at, {"close_1m": close}) for symbol, close in closes.items()])

    past, now = [minute(0, A=1.0, B=9.0), minute(1, A=4.0, B=2.0)], minute(2, A=5.0, B=1.0)

    def symbols(*query: str, past: list[MetricsBatch] = past) -> str:
        return "".join(now.symbol_of(row) for row in screen(now, *query, past=past))

    assert symbols("price > prev(price)") == "A"
    assert symbols("highest(price, 3m) == 9") == "B"
    assert symbols("rank(average(price, 2m)) == 1") == "A"
    assert symbols("price > 0", "ago(price, 2m)") == "BA"
    assert symbols("price > prev(price) or highest(price, 3m) > 0", past=[]) == ""
    for query in ("prev(rank(price)) > 1", "highest(rank(price), 5m) > 1"):
        with pytest.raises(RuleError, match="looks back"):
            symbols(query)


def test_evaluation_leaves_the_batch_unchanged_and_raises_no_floating_point_warning():
    batch = metrics_batch([Row("A", 0, {"close_1m": 1e308, "low_1m": 0.0})])
    before = batch.values.copy()
    rules = evaluator(
        Rule("huge", "price * 1e10 > 1 and price / low > 0 or price * 1e10 - price * 1e10 > 0", "high")
    )
    with np.errstate(all="raise"):
        assert pairs(rules.evaluate(batch)) == []
    np.testing.assert_array_equal(batch.values, before)
