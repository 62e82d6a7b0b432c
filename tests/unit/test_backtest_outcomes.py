"""Forward returns and random entries."""

from __future__ import annotations

import json

import numpy as np
import pytest

from app.backtest.backtest import Entry, Step
from app.backtest.forward import ForwardReturns
from app.backtest.outcomes import HORIZONS
from app.candles.batch import MINUTE_MS, CandleBatch, concatenate
from tests.support.candle_history import START_MS, candles

HORIZON = {"5m": 5}


def entry(minute: int, symbol: str = "AUSDT", rule_type: str = "rule") -> Entry:
    return Entry(START_MS + minute * MINUTE_MS, rule_type, symbol, f"{rule_type}-{symbol}-{minute}")


def market(**closes: list[float]) -> CandleBatch:
    whole = concatenate([candles(values, symbol) for symbol, values in closes.items()])
    return whole.take(np.argsort(whole.open_time_ms, kind="stable"))


def measure(entries, history, awake_ms, horizons=HORIZONS):
    returns = ForwardReturns(horizons=horizons)
    returns.take(Step(history, entries, np.zeros(len(entries))))
    return returns.outcomes(awake_ms)


def walk(minutes: int, seed: int) -> np.ndarray:
    return 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.001, minutes)))


def test_forward_returns_are_in_percent_and_null_beyond_what_is_known():
    history = market(A=[100, 110, 121], B=[50, 25, 100])
    entries = [entry(minute, symbol) for minute in range(3) for symbol in "AB"]
    [found] = measure(entries, history, {}, {"1m": 1})
    assert [alert.entry for alert in found.newest] == entries
    assert [alert.price for alert in found.newest] == [100, 50, 110, 25, 121, 100]
    returns = [alert.returns_pct[0] for alert in found.newest]
    np.testing.assert_allclose(returns, [10, -50, 10, 300, np.nan, np.nan])
    assert measure([], candles([]), {}) == ()


def test_entries_before_rises_are_told_from_random_ones():
    close = walk(3000, seed=5)
    jumps = np.arange(50, 2900, 100)
    for jump in jumps:
        close[jump + 3 :] *= 1.02
    entries = [entry(int(jump)) for jump in jumps]
    [found] = measure(entries, market(AUSDT=close.tolist()), {"rule": START_MS}, HORIZON)
    [outcome] = found.outcomes
    assert outcome.known == found.fires == len(jumps)
    assert outcome.alerts.mean_pct == pytest.approx(2, abs=0.2)
    assert outcome.alerts.hit_pct == 100
    assert outcome.random.mean_pct < 0.3
    assert outcome.p_value < 0.01
    assert found.per_day == pytest.approx(len(jumps) / (3000 / 1440))


def test_random_entries_are_seldom_found_significant():
    rng = np.random.default_rng(3)
    p_values = []
    for seed in range(60):
        entries = [entry(int(minute)) for minute in np.sort(rng.choice(1900, 30, replace=False))]
        [found] = measure(entries, market(AUSDT=walk(2000, seed).tolist()), {"rule": START_MS}, HORIZON)
        p_values.append(found.outcomes[0].p_value)
    assert sum(p < 0.05 for p in p_values) <= 9
    assert 0.3 < np.mean(p_values) < 0.7


def test_one_crash_in_which_all_symbols_fire_is_not_many_independent_successes():
    rng = np.random.default_rng(8)
    symbols = [f"S{at}" for at in range(40)]
    common = rng.normal(0, 0.002, 2000)
    closes = {
        symbol: (100 * np.exp(np.cumsum(common + rng.normal(0, 1e-4, 2000)))).tolist() for symbol in symbols
    }
    together = market(**closes)
    close = np.array(closes["S0"])
    minute = int(np.argsort(close[5:] / close[:-5])[-100])
    [found] = measure([entry(minute, symbol) for symbol in symbols], together, {"rule": START_MS}, HORIZON)
    assert found.symbols == 40
    assert found.outcomes[0].alerts.hit_pct == 100
    assert found.outcomes[0].p_value > 0.02


def test_the_same_backtest_gives_the_same_figures_as_json():
    entries = [entry(minute) for minute in (10, 500, 900)]
    walked = market(AUSDT=walk(2500, 1).tolist())
    first, second = (measure(entries, walked, {"rule": START_MS}) for _ in range(2))
    assert first == second
    assert json.loads(json.dumps(first[0].as_dict(), allow_nan=False))["after"]["4h"]["known"] == 3


def test_a_rule_without_alerts_is_listed_and_few_alerts_have_no_p_value():
    walked = market(AUSDT=walk(100, 1).tolist())
    silent, single = (
        measure([entry(10, rule_type="single")], walked, {"silent": START_MS, "single": START_MS}, HORIZON)[
            at
        ]
        for at in (1, 0)
    )
    assert (silent.rule_type, silent.fires, silent.symbols) == ("silent", 0, 0)
    assert silent.outcomes[0].alerts.mean_pct is None
    assert single.outcomes[0].known == 1
    assert single.outcomes[0].alerts.mean_pct is not None
    assert single.outcomes[0].p_value is None


def test_random_entries_come_from_the_time_in_which_the_rule_could_fire():
    close = np.concatenate((100 * 1.01 ** np.arange(500), np.full(600, 100 * 1.01**500)))
    late = START_MS + 510 * MINUTE_MS
    entries = [entry(600), entry(700)]
    [awake] = measure(entries, market(AUSDT=close.tolist()), {"rule": late}, HORIZON)
    [asleep] = measure(entries, market(AUSDT=close.tolist()), {"rule": START_MS}, HORIZON)
    assert awake.outcomes[0].random.mean_pct == pytest.approx(0)
    assert asleep.outcomes[0].random.mean_pct > 1


def test_an_entry_at_the_end_of_the_period_has_no_known_return():
    [found] = measure(
        [entry(10), entry(98)], market(AUSDT=walk(100, 1).tolist()), {"rule": START_MS}, HORIZON
    )
    assert found.fires == 2
    assert found.outcomes[0].known == 1
