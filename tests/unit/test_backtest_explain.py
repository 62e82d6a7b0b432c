"""Why a rule was true or not at a minute of history."""

from __future__ import annotations

import numpy as np
import pytest

from app.backtest.explain_at import explain_at, minutes_needed
from app.candles.batch import MINUTE_MS, concatenate
from app.errors import RuleError
from app.rules.rule import Rule
from tests.support.candle_history import START_MS, candles

RISING = Rule("rising", "price_change_1m > 1 and price > 1.5 * prev(price_change_1m)", "high")
HISTORY = candles([100, 102, 105, 105])


def at(minute: int) -> int:
    return START_MS + minute * MINUTE_MS


def test_a_minute_of_history_is_explained_from_the_candles_before_it():
    clause = explain_at(RISING, HISTORY, at(2))
    assert clause.truth is True
    change, previous = clause.parts
    assert change.value == pytest.approx((105 / 102 - 1) * 100)
    assert previous.threshold == pytest.approx(1.5 * 2)
    assert explain_at(RISING, HISTORY, at(3)).truth is False


def test_the_first_minutes_of_history_are_null_with_the_reason():
    assert "price_change_1m is null" in explain_at(RISING, HISTORY, at(0)).null_because
    assert "1 minute earlier" in explain_at(RISING, HISTORY, at(1)).null_because


def test_a_minute_after_a_gap_has_no_minute_before():
    gapped = concatenate([candles([100, 102]), candles([105, 106], start=3)])
    assert "1 minute earlier" in explain_at(Rule("r", "prev(price) > 1", "info"), gapped, at(3)).null_because
    assert explain_at(Rule("r", "prev(price) > 1", "info"), gapped, at(4)).truth is True


def test_a_minute_without_a_candle_is_refused():
    for minute in (-1, 4):
        with pytest.raises(RuleError, match="no candle for the minute"):
            explain_at(RISING, HISTORY, at(minute))


@pytest.mark.parametrize(
    ("expression", "days"),
    [
        ("price_change_5m > 1", 2),
        ("price_change_1d > 1 and volume_ratio_1d > 1", 2),
        ("rsi_14_5m > 70", 2),
        ("rsi_14_1h > 70", 10),
        ("ema_50_4h > 1 and price > 1", 41),
        ("rsi_14_1d > 70", 60),
        ("price > vwap_week", 7),
        ("crosses_above(close_15m, ichimoku_span_a_15m)", 2),
    ],
)
def test_as_much_history_is_asked_for_as_the_slowest_metric_needs(expression, days):
    minutes = minutes_needed(Rule("r", expression, "info").condition())
    assert days <= minutes / 1440 < days + 1


def test_so_much_history_gives_the_values_that_all_of_it_gives():
    random = np.random.default_rng(5)
    history = candles(100 + np.cumsum(random.normal(0, 0.1, 12 * 1440)))
    for expression in ("rsi_14_15m > 50 and ema_50_5m > 1", "price_change_1d > 0 and volume_ratio_8h > 1"):
        rule = Rule("r", expression, "info")
        newest = int(history.open_time_ms[-1])
        enough = history.take(slice(len(history) - minutes_needed(rule.condition()), None))
        whole, short = (explain_at(rule, some, newest) for some in (history, enough))
        assert whole.truth == short.truth
        for one, other in zip(whole.parts, short.parts, strict=True):
            assert one.value == pytest.approx(other.value, rel=1e-3)
