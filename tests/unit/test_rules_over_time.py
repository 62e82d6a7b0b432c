"""Functions over time wherever rules go: evaluation, alerts, explanations, backtests."""

from __future__ import annotations

import numpy as np
import pytest

from app.backtest.backtest import Backtest
from app.backtest.explain_at import explain_at, explain_now, minutes_needed, screen_minutes
from app.candles.batch import CandleBatch
from app.errors import RuleError
from app.market.matrix import MarketMatrix
from app.rules.alert import Alert
from app.rules.evaluation.builder import Builder
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.program import run
from app.rules.evaluation.rulebook import RuleBook
from app.rules.evaluation.slot_memory import Reader
from app.rules.explain import explain_alert
from app.rules.language.parser import parse_condition, parse_number
from app.rules.language.walks import columns_of
from app.rules.rule import Rule
from tests.support.candle_batches import Candle, batch_of
from tests.support.metric_rows import Row, metrics_batch

BREAKOUT = (
    "price > ago(highest(high, 30m), 1m) and within(count(price > prev(price), 5m) >= 3, 10m) "
    "and closes(5m) and sma(close, 3, 5m) > 0"
)


def rows_found(rule: Rule, rows: list[Row]) -> list[int]:
    return Evaluator(RuleBook.compile([rule], "close")).evaluate(metrics_batch(rows)).row.tolist()


def test_a_bar_ends_with_its_last_closed_minute():
    rows = [Row("A", at, {"close_1m": 1.0}) for at in range(3, 31)]
    rows.insert(12, Row("A", 14, {"close_1m": 1.0}, closed=False))
    found = rows_found(Rule("r", "price > 0 and closes(15m)", "low", mode="live"), rows)
    assert [rows[at].minute for at in found] == [14, 29]
    assert all(rows[at].closed for at in found)
    assert len(rows_found(Rule("r", "price > 0 and not closes(15m)", "low", mode="live"), rows)) == 27


def test_what_is_never_certain_is_neither_true_nor_false():
    gap = [Row("A", at, {"close_1m": 1.0}) for at in (1, 2, 4)]
    assert rows_found(Rule("r", "always(price > 0, 4m)", "low"), gap) == []
    assert rows_found(Rule("r", "not always(price > 0, 4m)", "low"), gap) == []
    assert rows_found(Rule("r", "not always(price > 1, 4m)", "low"), gap) == [0, 1, 2]
    assert rows_found(Rule("r", "within(price > 0, 4m)", "low"), gap) == [0, 1, 2]


@pytest.mark.parametrize(
    ("expression", "position", "said"),
    [
        ("highest(price) > 1", 0, "takes 2 arguments"),
        ("highest(price, 5) > 1", 15, "needs a duration"),
        ("highest(price, 2d) > 1", 15, "from 1m to 1d"),
        ("highest(3, 5m) > 1", 0, "never changes"),
        ("within(price, 5m)", 7, "needs a condition"),
        ("average(price > 1, 5m) > 1", 8, "needs a number"),
        ("closes(2h)", 7, "a timeframe"),
        ("ema(clos, 9, 15m) > 1", 4, "did you mean `close`"),
        ("ema(close, 201, 15m) > 1", 11, "from 1 to 200"),
        ("ema(close, 9, 3m) > 1", 14, "a timeframe"),
        ("ema(sma(close, 3, 5m), 9, 15m) > 1", 4, "of 5m bars"),
        ("ema(abs(price), 9, 15m) > 1", 4, "is not an indicator"),
        ("macd(close, 26, 12, 15m) > 1", 12, "shorter"),
        ("ago(price, 1h", 3, "never closed"),
    ],
)
def test_a_faulty_call_is_refused_with_its_place(expression, position, said):
    with pytest.raises(RuleError) as refused:
        parse_condition(expression)
    assert said in str(refused.value)
    assert refused.value.position == position


def candles() -> CandleBatch:
    """A walk of one symbol over six hours."""
    rng = np.random.default_rng(7)
    prices = (100 + rng.normal(0, 1, 360).cumsum() / 10).tolist()
    return batch_of([Candle("AUSDT", 27_000_000 + at, price) for at, price in enumerate(prices)])


def numbers(*texts: str) -> list[np.ndarray]:
    """Each expression at every minute of the walk, all in one program."""
    builder = Builder()
    nodes = [parse_number(text) for text in texts]
    cells = [builder.number(node) for node in nodes]
    columns = tuple(dict.fromkeys(name for node in nodes for name in columns_of(node)))
    found = Reader(builder).read(MarketMatrix(columns=columns).update(candles()))
    with np.errstate(all="ignore"):
        run(found, [step for cell in cells for step in builder.steps_for(cell)])
    return [np.asarray(found[cell]) for cell in cells]


@pytest.mark.parametrize("indicator", ["adx(5, 5m)", "ema(close, 4, 15m)", "obv(1m)", "macd(hl2, 3, 5, 5m)"])
def test_an_indicator_and_its_own_past_are_remembered_apart(indicator):
    [alone] = numbers(indicator)
    now, before, most = numbers(indicator, f"ago({indicator}, 5m)", f"highest({indicator}, 3m)")
    assert np.isfinite(alone).sum() > 200
    np.testing.assert_array_equal(now, alone)
    np.testing.assert_array_equal(before[5:], alone[:-5])
    np.testing.assert_array_equal(most[2:], np.lib.stride_tricks.sliding_window_view(alone, 3).max(axis=1))


def alerts_of(rule: Rule) -> list[Alert]:
    found: list[Alert] = []
    Backtest(RuleBook.compile([rule], "close"), found.append).feed(candles())
    return found


def test_an_alert_keeps_what_its_rule_saw_and_is_explained_by_it():
    alerts = alerts_of(Rule("r", BREAKOUT, "high", cooldown_s=0))
    assert alerts
    for alert in alerts:
        assert alert.seen is not None
        assert set(alert.seen["values"]) == {
            "close_1m",
            "ago(highest(high_1m, 30m), 1m)",
            "within(count(close_1m > prev(close_1m), 5m) >= 3, 10m)",
            "closes(5m)",
            "sma(close, 3, 5m)",
        }
        clause = explain_alert(alert)
        assert clause is not None
        assert clause.truth is True


def test_an_explanation_of_history_is_true_exactly_where_the_rule_fired():
    rule = Rule("r", BREAKOUT, "high", cooldown_s=0)
    fired = {alert.minute_ms for alert in alerts_of(rule)}
    times = candles().open_time_ms[40:].tolist()
    assert {at for at in times if explain_at(rule, candles(), at).truth} == fired
    first = explain_at(rule, candles(), int(candles().open_time_ms[3]))
    assert "x is unknown" in "".join(first.lines()) or "minute is unknown" in "".join(first.lines())


def test_a_minute_in_memory_is_explained_with_the_stored_ones_before_it():
    condition, history = parse_condition(BREAKOUT), candles()
    row = MarketMatrix().update(history).take(slice(-1, None))
    before = history.take(slice(0, -1))
    rule = Rule("r", BREAKOUT, "high")
    assert explain_now(condition, before, row) == explain_at(rule, history, int(history.open_time_ms[-1]))


def test_history_is_read_as_far_back_as_an_expression_looks():
    assert minutes_needed(parse_condition("ago(highest(price_change_1d, 1d), 1d) > 1")) >= 2 * 1440 + 2 * 1440
    assert screen_minutes([parse_condition("price > average(price, 1h)")]) < 100
    assert screen_minutes([parse_condition("price_change_1d > 1 and price > prev(price)")]) < 100
    assert screen_minutes([parse_condition("ema(close, 9, 15m) > 1")]) > 9 * 15
