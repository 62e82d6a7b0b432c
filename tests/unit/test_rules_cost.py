"""What rules over time cost, and that what is too much is refused with the figures."""

from __future__ import annotations

import pytest

from app.errors import RuleError
from app.rules.evaluation.cost import check_cost, values_by_symbol
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule
from tests.support.metric_rows import Row, metrics_batch

DAY = Rule("day", "price > average(price, 1d)", "low")
HOUR = Rule("hour", "price > average(price, 1h)", "low")
BARS = Rule("bars", "ema(close, 9, 15m) > sma(close, 50, 15m)", "low")
MOMENTS = Rule("moments", "zscore(price, 59m) > stdev(price, 1h) / average(price, 1h)", "low")


def test_a_value_that_several_rules_look_back_at_is_counted_once():
    assert values_by_symbol([Rule("plain", "price > prev(price)", "low")]) == 0
    assert values_by_symbol([HOUR]) < values_by_symbol([DAY])
    window_of_an_hour = 1
    assert values_by_symbol([DAY, HOUR]) == values_by_symbol([DAY]) + window_of_an_hour
    assert 1440 < values_by_symbol([DAY]) < 2 * (1440 + 1440 / 4 + 62)


@pytest.mark.parametrize("rule", [DAY, HOUR, BARS, MOMENTS])
def test_the_estimate_is_the_memory_in_use(rule: Rule):
    evaluator = Evaluator(RuleBook.compile([rule], "close"))
    evaluator.evaluate(metrics_batch([Row("A", 0, {"close_1m": 1.0})]))
    assert evaluator.time_memory_bytes() == 8 * values_by_symbol([rule])


def test_too_much_is_refused_with_the_figures():
    most = values_by_symbol([DAY, HOUR])
    check_cost([DAY, HOUR], most)
    check_cost([DAY, Rule("off", BARS.expression, "low", enabled=False)], most)
    with pytest.raises(RuleError) as refused:
        check_cost([DAY, BARS], most)
    for figure in (
        f"{values_by_symbol([DAY, BARS]):,}",
        f"{most:,}",
        "SCREENER_RULES_VALUES_MAX",
        "day takes",
    ):
        assert figure in str(refused.value)
