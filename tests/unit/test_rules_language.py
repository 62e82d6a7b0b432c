"""What the language means, and what it says about expressions it refuses."""

from __future__ import annotations

import math

import pytest

from app.errors import RuleError
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.language.canonical_text import to_text
from app.rules.language.parser import parse_condition, parse_number, pointer
from app.rules.language.walks import columns_of
from app.rules.rule import Rule
from app.rules.screen import screen
from tests.support.metric_rows import Row, metrics_batch

ROW = {
    "close_1m": 10.0,
    "price_change_5m": 2.0,
    "quote_volume_5m": 600.0,
    "base_volume_5m": 60.0,
    "open_1m": 0.0,
}


def is_true(expression: str, **changes: float) -> bool:
    book = RuleBook.compile([Rule("rule", expression, "high")], "close")
    return len(Evaluator(book).evaluate(metrics_batch([Row("S", 0, ROW | changes)]))) == 1


@pytest.mark.parametrize(
    "expression",
    [
        "price == 10",
        "close == 10 and price == close_1m",
        "volume_5m == 600 and volume_5m == quote_volume_5m and base_volume_5m == 60",
        "price + 2 * 3 == 16",
        "(price + 2) * 3 == 36",
        "price - 3 - 2 == 5",
        "price / 5 / 2 == 1",
        "-price + 1 == -9",
        "- -price == 10",
        "price > -1",
        "price * -1 < 0",
        "price < 0 or price > 1 and price == 10",
        "(price < 0 or price > 1) and price == 10",
        "not price < 0 and price == 10",
        "not (price < 0 or price > 11)",
        "not not price == 10",
        "NOT price < 0 AND price == 10 Or price < 0",
        "price == 1e1 and price == 1_0 and price == 10.0 and price == 0.1e2 and price < .1e3",
        "price < 1k and price < 1K and price < 0.5M and price * 1000 == 10k",
        "abs(-price) == 10",
        "min(price, 3, price_change_5m) == 2 and max(price, 3) == 10",
        "price >= 10 and price <= 10 and price != 11",
        "price >\n 1\tand price\r\n< 11",
        "volume_5m>500 and(price<11)",
        "1 > 0 and price == 10",
        "price == 10 or 1 > 2",
        "6 / 4 + price == 11.5",
    ],
)
def test_an_expression_means_what_it_says(expression):
    assert is_true(expression)
    assert not is_true(f"not ({expression})")


@pytest.mark.parametrize(
    "expression",
    [
        "rsi_14_5m > 0",
        "not (rsi_14_5m > 0)",
        "not not (rsi_14_5m > 0)",
        "rsi_14_5m != 0",
        "rsi_14_5m == rsi_14_5m",
        "not (rsi_14_5m != 0)",
        "rsi_14_5m > 0 or not (rsi_14_5m > 0)",
        "max(price, rsi_14_5m) > 0",
        "min(rsi_14_5m, price) > 0",
        "abs(rsi_14_5m) >= 0",
        "price + rsi_14_5m > 0 or not (price * rsi_14_5m > 0)",
        "price / open > 0",
        "not (price / open > 0)",
        "price / (price - 10) != 1",
        "prev(price) > 0",
        "not (prev(price) > 0)",
        "crosses_above(price, price_change_5m)",
        "not crosses_above(price, price_change_5m)",
        "price > 1 and not (rsi_14_5m > 0 and price > 1)",
    ],
)
def test_nothing_is_true_on_a_null_nor_under_not(expression):
    assert not is_true(expression)


def test_a_null_does_not_hide_what_is_certain_without_it():
    assert is_true("rsi_14_5m > 0 or price == 10")
    assert is_true("not (rsi_14_5m > 0 and price < 0)")
    assert is_true("not crosses_above(price_change_5m, price)", quote_volume_5m=1.0)
    assert not is_true("rsi_14_5m > 0 and price == 10")


@pytest.mark.parametrize(
    ("expression", "position", "said"),
    [
        ("", 0, "empty"),
        ("   ", 0, "empty"),
        ("price", 0, "compare it"),
        ("price > ", 8, "found the end"),
        ("price > 1 and", 13, "found the end"),
        ("price_chnge_5m > 1", 0, "did you mean `price_change_5m`"),
        ("price > 1 and rsi_5m > 2", 14, "rsi_14_5m"),
        ("rsi_14 > 70", 0, "needs a timeframe"),
        ("price_change_2h > 1", 0, "unknown timeframe `2h`"),
        ("Price > 1", 0, "lower case: `price`"),
        ("price > 1 < 2", 10, "do not chain"),
        ("price > 5m", 8, "million or minutes"),
        ("price > 5x", 8, "suffixes"),
        ("price > 5.", 8, "after the point"),
        ("price > 1.6%", 11, "percent"),
        ("price = 1", 6, "`==`"),
        ("price > 1 && price < 2", 10, "`and`"),
        ("price > 1 || price < 2", 10, "`or`"),
        ("price <> 1", 6, "`!=`"),
        ("price ** 2 > 1", 6, "a * a"),
        ("!(price > 1)", 0, "`not`"),
        ("symbol == 'BTC'", 10, "no text"),
        ("symbol == 3", 0, "unknown metric `symbol`"),
        ("price > 'a'", 8, "no text"),
        ("(price > 1", 0, "never closed"),
        ("price > 1)", 9, "no `(`"),
        ("(price > 1 2)", 11, "expected `)`"),
        ("price > 1 price", 10, "expected `and`"),
        ("price and price > 1", 0, "needs a condition"),
        ("price > 1 and price", 14, "needs a condition"),
        ("not price", 4, "needs a condition"),
        ("(price > 1) + 2 > 3", 1, "needs a number"),
        ("(price > 1) == (price > 2)", 1, "needs a number"),
        ("abs(price > 1) > 2", 4, "needs a number"),
        ("+price > 1", 0, "remove this"),
        ("price / 0 > 1", 8, "always null"),
        ("abss(price) > 1", 0, "did you mean `abs`"),
        ("sqrt(price) > 1", 0, "unknown function"),
        ("abs > 1", 0, "is a function"),
        ("abs(price, 2) > 1", 0, "takes 1 argument, 2 given"),
        ("max(price) > 1", 0, "two or more"),
        ("crosses_above(price)", 0, "takes 2 arguments, 1 given"),
        ("prev() > 1", 0, "takes 1 argument, 0 given"),
        ("rank(3) < 10", 0, "the same for every symbol"),
        ("share(price) > 0.5", 6, "needs a condition"),
        ("of(btc, price) > 1", 3, "needs a symbol"),
        ("corr(BTCUSDT, 2d) > 0.5", 14, "1m to 1d"),
        ("prev(" * 9 + "price" + ")" * 9 + " > 1", 0, "8 minutes"),
    ],
)
def test_a_faulty_expression_is_refused_with_its_place_and_what_was_meant(expression, position, said):
    with pytest.raises(RuleError) as refused:
        parse_condition(expression)
    assert said in str(refused.value)
    assert refused.value.position == position
    assert f"(at character {position + 1})" in str(refused.value)


def test_a_pointer_shows_the_fault_in_its_line():
    text = "price > 1\n  and rsi_14 > 70"
    with pytest.raises(RuleError) as refused:
        parse_condition(text)
    _, line, caret = pointer(text, refused.value).split("\n")
    assert line[caret.index("^") :].startswith("rsi_14 > 70")


def test_a_query_may_rank_symbols_and_compare_them_with_their_mean():
    prices = {"A": 5.0, "B": 7.0, "C": math.nan, "D": 7.0, "E": 1.0}
    batch = metrics_batch([Row(symbol, 0, {"close_1m": price}) for symbol, price in prices.items()])

    def found(query: str) -> set[str]:
        return {batch.symbol_of(row) for row in screen(batch, query)}

    assert found("rank(price) == 1") == {"B", "D"}
    assert found("rank(price) <= 3") == {"A", "B", "D"}
    assert found("rank(-price) == 1") == {"E"}
    assert found("price > mean(price)") == {"B", "D"}
    assert found("mean(price) == 5") == {"A", "B", "C", "D", "E"}
    assert found("mean(rsi_14_5m) > 0 or rank(rsi_14_5m) > 0") == set()
    assert found("pct_rank(price) >= 2.5 / 3") == {"B", "D"}
    assert found("median(price) == 6 and price > 6") == {"B", "D"}
    assert found("share(price > 4) == 0.75 and share(not (price > 4)) == 0.25") == {"A", "B", "C", "D", "E"}
    assert found("price < of(A, price)") == {"E"}
    assert found("of(MISSING, price) > 0 or corr(A, 5m) > -2") == set()


def test_a_number_is_refused_where_a_condition_is_needed_and_the_other_way_round():
    with pytest.raises(RuleError, match="compare it: `close_1m > 0`"):
        parse_condition("price")
    with pytest.raises(RuleError, match="a number is needed"):
        parse_number("price > 1")
    assert to_text(parse_number("price*2")) == "close_1m * 2"


def test_equal_expressions_have_equal_trees_however_they_are_spaced_and_named():
    spaced = parse_condition("(quote_volume_5m > 1000) and close < 2.0")
    assert parse_condition("volume_5m>1k  and price<2") == spaced


def test_the_columns_of_an_expression_are_named_once_in_order():
    condition = parse_condition(
        "volume_5m > price and prev(volume_5m) < low or crosses_above(price, ema_20_15m)"
    )
    assert columns_of(condition) == ("quote_volume_5m", "close_1m", "low_1m", "ema_20_15m")


def test_a_symbol_of_any_script_stands_where_a_function_takes_one():
    for symbol in ("\u9f99\u867eUSDT", "1000\u9f99\u867eUSDT", "USDT\u9f99\u867e"):
        rule = Rule("led", f"price - of({symbol}, price) > 0 and corr({symbol}, 15m) > 0", "info")
        assert symbol in str(rule.condition())


def test_a_symbol_elsewhere_is_named_with_the_place_where_one_may_stand():
    with pytest.raises(RuleError, match=r"'\u9f99\u867eUSDT' is not a field; a symbol may stand only where"):
        RuleBook.compile([Rule("led", "\u9f99\u867eUSDT > 1", "info")], "live")
