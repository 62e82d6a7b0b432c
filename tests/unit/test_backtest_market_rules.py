"""Rules that look at all symbols, over real candles without servers, against a brute force."""

from __future__ import annotations

import numpy as np
import pytest

from app.backtest.backtest import Backtest
from app.backtest.explain_at import explain_over_market
from app.candle_files.reader import by_minutes
from app.candles.batch import CandleBatch
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule
from tests.oracle.market import RULES, market_alerts
from tests.support.replays import market_slice

BOOK = [Rule(name, expression, "high") for name, expression in RULES.items()]


@pytest.fixture(scope="module")
def candles() -> CandleBatch:
    return market_slice()


@pytest.fixture(scope="module")
def played(candles: CandleBatch) -> Backtest:
    backtest = Backtest(RuleBook.compile(BOOK, "live"))
    for part in by_minutes(candles, 20_000):
        backtest.feed(part)
    return backtest


def test_a_backtest_gives_the_alerts_of_a_brute_force(candles: CandleBatch, played: Backtest):
    columns = {
        "symbol": np.array(candles.symbols)[candles.symbol_index],
        "open_time_ms": candles.open_time_ms,
        "close": candles.close,
        "quote_volume": candles.quote_volume,
    }
    found = {(entry.rule_type, entry.symbol, entry.open_time_ms) for entry in played.entries}
    assert found == market_alerts(columns)
    assert {rule_type for rule_type, _, _ in found} == RULES.keys()
    assert not played.faults


def test_an_explanation_of_an_alert_is_true_and_names_the_values(candles: CandleBatch, played: Backtest):
    entry = next(entry for entry in played.entries if entry.rule_type == "wide_strongest")
    rule = next(rule for rule in BOOK if rule.rule_type == entry.rule_type)
    minute, clause = explain_over_market(rule, by_minutes(candles, 20_000), entry.symbol, entry.open_time_ms)
    assert minute == entry.open_time_ms
    assert clause.truth is True
    rank = clause.parts[0]
    assert rank.text == "rank(price_change_5m) <= 3"
    assert rank.value is not None
    assert 1 <= rank.value <= 3
