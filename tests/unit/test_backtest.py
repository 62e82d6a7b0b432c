"""A backtest finds the alerts that the specification asks for, and says what it left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.backtest.backtest import Backtest, Entry
from app.candles.batch import MINUTE_MS, concatenate
from app.rules.alert import Alert, alert_id
from app.rules.alert_builder import METADATA_COLUMNS
from app.rules.evaluation.rulebook import RuleBook
from app.rules.files import shipped_rules
from app.rules.rule import Rule
from tests.oracle.alerts import close_mode_alerts, close_mode_ichimoku_alerts
from tests.oracle.quiet_rules import quiet_alerts
from tests.support.candle_history import START_MS, candles, history_of
from tests.support.market_data import ALTCOINS_2021, FULL_2024, market_data_dir

RISING = Rule("rising", "price_change_1m > 1", "high", cooldown_s=120)


def minutes_of(entries: list[Entry]) -> list[int]:
    return [(entry.open_time_ms - START_MS) // MINUTE_MS for entry in entries]


@pytest.mark.parametrize("name", [ALTCOINS_2021, FULL_2024])
def test_a_backtest_of_real_candles_finds_exactly_the_alerts_of_brute_force_for_every_shipped_rule(name):
    history, file = history_of(name), market_data_dir() / name
    backtest = Backtest(RuleBook.compile([replace(rule, enabled=True) for rule in shipped_rules()], "close"))
    steps = [backtest.feed(history.take(slice(at, at + 9_999))) for at in range(0, len(history), 9_999)]
    found = sum(len(step.entries) for step in steps)
    entries = [(entry.rule_type, entry.symbol, entry.open_time_ms) for entry in backtest.entries]
    assert found == len(entries) == len(set(entries))
    expected = close_mode_alerts(file) | close_mode_ichimoku_alerts(file) | quiet_alerts(file)
    assert set(entries) == expected
    assert backtest.counts.candles == len(history)
    assert backtest.counts.invalid == backtest.counts.duplicates == backtest.counts.corrections == 0


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_entries_carry_the_pipelines_ids_however_the_candles_are_batched(rows):
    history = candles([100, 102, 104, 106, 106, 108])
    backtest = Backtest(RuleBook.compile([RISING], "close"))
    for at in range(0, len(history), rows):
        backtest.feed(history.take(slice(at, at + rows)))
    assert minutes_of(backtest.entries) == [1, 3, 5]
    assert backtest.entries[0].id == alert_id("rising", 1, "AUSDT", START_MS + MINUTE_MS)
    assert backtest.awake_ms == {"rising": START_MS + MINUTE_MS}


def test_what_is_invalid_or_known_is_left_out_and_counted():
    history = candles([100, 102, 104])
    broken = history.take([1])
    broken = replace(broken, low=broken.close + 1)
    changed = replace(history.take([2]), quote_volume=np.array([5.0]))
    backtest = Backtest(RuleBook.compile([RISING], "close"))
    backtest.feed(concatenate([history, broken]))
    backtest.feed(history.take([2]))
    backtest.feed(changed)
    backtest.feed(history.take(slice(0, 0)))
    assert minutes_of(backtest.entries) == [1]
    counts = backtest.counts
    assert (counts.candles, counts.invalid, counts.duplicates, counts.corrections) == (6, 1, 1, 1)


def test_alerts_on_request_are_those_of_the_entries_and_whole():
    alerts = []
    backtest = Backtest(RuleBook.compile([RISING], "close"), on_alert=alerts.append)
    backtest.feed(candles([100 + at * 2 for at in range(8)]))
    assert [alert.id for alert in alerts] == [entry.id for entry in backtest.entries]
    last = alerts[-1]
    assert last.price == 114
    assert set(last.metadata) == {*METADATA_COLUMNS, "seen"}
    assert last.metadata["price_change_5m"] == pytest.approx((114 / 104 - 1) * 100)
    assert last.timings.evaluate_ts_ms == last.timings.exchange_ts_ms


def test_what_lies_before_the_period_warms_up_and_counts_for_nothing():
    history = history_of(FULL_2024)
    since_ms = int(history.open_time_ms[0]) + 36 * 60 * MINUTE_MS + 7 * MINUTE_MS
    alerts: list[Alert] = []
    rules = [*shipped_rules()[:12], Rule("held", "price_change_5m > 0.3", "low", hold_s=180)]
    whole = Backtest(RuleBook.compile(rules, "close"))
    part = Backtest(RuleBook.compile(rules, "close"), on_alert=alerts.append, since_ms=since_ms)
    counted_ms = []
    for at in range(0, len(history), 1_001):
        whole.feed(history.take(slice(at, at + 1_001)))
        counted_ms += part.feed(history.take(slice(at, at + 1_001))).candles.open_time_ms.tolist()
    expected = [entry for entry in whole.entries if entry.open_time_ms >= since_ms]
    assert 0 < len(expected) < len(whole.entries)
    assert part.entries == expected
    assert [alert.id for alert in alerts] == [entry.id for entry in expected]
    assert part.counts.candles == int((history.open_time_ms >= since_ms).sum())
    assert min(counted_ms) == since_ms
    assert min(part.awake_ms.values()) == since_ms
