"""A rule tried on groups of symbols: the alerts, counts and prices of a brute-force computation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from app.backtest.trial import MOST_ALERTS, Trial
from app.candles.batch import MINUTE_MS, concatenate
from app.rules.rule import Rule
from app.times import rfc3339
from tests.support.candle_history import START_MS, candles

MINUTES = 26 * 60
SYMBOLS = ("AUSDT", "BUSDT", "CUSDT")


def walks() -> dict[str, list[float]]:
    rng = np.random.default_rng(5)
    return {symbol: (100 * np.exp(np.cumsum(rng.normal(0, 0.003, MINUTES)))).tolist() for symbol in SYMBOLS}


def fires(closes: list[float], cooldown_min: int, hold_min: int, since: int) -> list[int]:
    """The minutes at which `price_change_5m > 0.8` fires, one after another."""
    found: list[int] = []
    last = -(10**9)
    true_from: int | None = None
    for minute in range(MINUTES):
        risen = minute >= 5 and (closes[minute] / closes[minute - 5] - 1) * 100 > 0.8
        true_from = (minute if true_from is None else true_from) if risen else None
        if true_from is not None and minute - true_from >= hold_min and minute - last >= cooldown_min:
            last = minute
            found.append(minute)
    return [minute for minute in found if minute >= since]


@pytest.mark.parametrize(
    ("cooldown_min", "hold_min", "since"), [(5, 0, 0), (0, 0, 700), (30, 0, 120), (5, 2, 120)]
)
@pytest.mark.parametrize("groups", [[SYMBOLS], [SYMBOLS[:1], SYMBOLS[1:]]], ids=["together", "apart"])
def test_a_trial_finds_the_alerts_of_a_brute_force_computation(cooldown_min, hold_min, since, groups):
    closes = walks()
    rule = Rule(
        "x", "price_change_5m > 0.8", "info", cooldown_s=60 * cooldown_min, hold_s=60 * hold_min, mode="close"
    )
    trial = Trial(rule, START_MS + since * MINUTE_MS)
    for group in groups:
        trial.add(concatenate([candles(closes[symbol], symbol) for symbol in group]))
    expected = [
        (minute, symbol)
        for symbol in SYMBOLS
        for minute in fires(closes[symbol], cooldown_min, hold_min, since)
    ]
    assert expected
    assert trial.by_symbol == Counter(symbol for _, symbol in expected)
    found = trial.as_dict()
    assert found["fired"] == len(expected)
    days = Counter(rfc3339(START_MS + minute * MINUTE_MS)[:10] for minute, _ in expected)
    assert found["by_day"] == [{"day": day, "fired": n} for day, n in sorted(days.items())]
    newest = sorted(expected, reverse=True)[:MOST_ALERTS]
    assert found["alerts"] == [
        {"symbol": symbol, "time": rfc3339(START_MS + minute * MINUTE_MS), "price": closes[symbol][minute]}
        for minute, symbol in newest
    ]
    assert (found["symbols"], found["minutes"]) == (3, 3 * (MINUTES - since))
    assert found["awake"] == rfc3339(START_MS + max(5, since) * MINUTE_MS)


def test_a_rule_whose_windows_are_never_whole_is_asleep():
    trial = Trial(Rule("x", "price_change_1d > 0", "info", mode="close"), START_MS)
    trial.add(candles([100.0, 101.0], "AUSDT"))
    assert (trial.as_dict()["awake"], trial.as_dict()["fired"]) == (None, 0)
