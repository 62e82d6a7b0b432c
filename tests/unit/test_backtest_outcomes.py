"""Forward returns, random entries, and two backtests side by side."""

from __future__ import annotations

import json

import numpy as np
import pytest

from app.backtest.compare import compare
from app.backtest.outcomes import measure
from app.backtest.prices import ClosePrices
from app.backtest.run import Entry
from app.candles.batch import MINUTE_MS
from tests.support.candle_history import START_MS, candles

HORIZON = {"5m": 5}


def entry(minute: int, symbol: str = "AUSDT", rule_type: str = "rule") -> Entry:
    return Entry(START_MS + minute * MINUTE_MS, rule_type, symbol, f"{rule_type}-{symbol}-{minute}")


def prices(**closes: list[float]) -> ClosePrices:
    found = ClosePrices()
    for symbol, values in closes.items():
        found.record(candles(values, symbol))
    return found


def walk(minutes: int, seed: int) -> np.ndarray:
    return 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.001, minutes)))


def test_forward_returns_are_in_percent_and_null_beyond_what_is_known():
    found = prices(A=[100, 110, 121], B=[50, 25, 100]).returns_pct(1)
    np.testing.assert_allclose(found, [[10, -50], [10, 300], [np.nan, np.nan]])
    assert np.isnan(prices(A=[100, 110]).returns_pct(2)).all()
    assert prices().returns_pct(1).shape == (0, 0)


def test_prices_may_come_in_any_order_with_gaps_and_corrections():
    found = ClosePrices()
    found.record(candles([7.0], "A", start=2000))
    found.record(candles([5.0, 6.0], "B", start=10))
    found.record(candles([8.0], "A", start=2000))
    found.record(candles([9.0], "A", start=5000))
    found.record(candles([1.0], "C", start=0).take(slice(0, 0)))
    assert found.first_ms == START_MS + 10 * MINUTE_MS
    closes = found.closes
    assert closes.shape == (4991, 2)
    known = {(row, column): closes[row, column] for row, column in np.argwhere(~np.isnan(closes)).tolist()}
    assert known == {(0, 1): 5.0, (1, 1): 6.0, (1990, 0): 8.0, (4990, 0): 9.0}
    assert found.rows_of(np.array([START_MS + 2000 * MINUTE_MS])).tolist() == [1990]


def test_entries_before_rises_are_told_from_random_ones():
    close = walk(3000, seed=5)
    jumps = np.arange(50, 2900, 100)
    for jump in jumps:
        close[jump + 3 :] *= 1.02
    entries = [entry(int(jump)) for jump in jumps]
    [found] = measure(entries, prices(AUSDT=close.tolist()), {"rule": START_MS}, HORIZON)
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
        [found] = measure(entries, prices(AUSDT=walk(2000, seed).tolist()), {"rule": START_MS}, HORIZON)
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
    together = prices(**closes)
    minute = int(np.argsort(together.returns_pct(5)[:-5, 0])[-100])
    [found] = measure([entry(minute, symbol) for symbol in symbols], together, {"rule": START_MS}, HORIZON)
    assert found.symbols == 40
    assert found.outcomes[0].alerts.hit_pct == 100
    assert found.outcomes[0].p_value > 0.02


def test_the_same_backtest_gives_the_same_figures_as_json():
    entries = [entry(minute) for minute in (10, 500, 900)]
    market = prices(AUSDT=walk(2500, 1).tolist())
    first, second = (measure(entries, market, {"rule": START_MS}) for _ in range(2))
    assert first == second
    assert json.loads(json.dumps(first[0].as_dict(), allow_nan=False))["after"]["4h"]["known"] == 3


def test_a_rule_without_alerts_is_listed_and_few_alerts_have_no_p_value():
    market = prices(AUSDT=walk(100, 1).tolist())
    silent, single = (
        measure([entry(10, rule_type="single")], market, {"silent": START_MS, "single": START_MS}, HORIZON)[
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
    [awake] = measure(entries, prices(AUSDT=close.tolist()), {"rule": late}, HORIZON)
    [asleep] = measure(entries, prices(AUSDT=close.tolist()), {"rule": START_MS}, HORIZON)
    assert awake.outcomes[0].random.mean_pct == pytest.approx(0)
    assert asleep.outcomes[0].random.mean_pct > 1


def test_an_entry_at_the_end_of_the_period_has_no_known_return():
    [found] = measure(
        [entry(10), entry(98)], prices(AUSDT=walk(100, 1).tolist()), {"rule": START_MS}, HORIZON
    )
    assert found.fires == 2
    assert found.outcomes[0].known == 1


def test_a_comparison_tells_kept_added_removed_and_moved_alerts():
    before = [entry(1), entry(20), entry(100), entry(5, "BUSDT"), entry(5, rule_type="old")]
    after = [entry(1), entry(23), entry(130), entry(8, "CUSDT"), entry(5, rule_type="new")]
    found = compare(before, after)
    assert found.kept == [entry(1)]
    assert found.moved == [(entry(20), entry(23))]
    assert found.removed == sorted([entry(100), entry(5, "BUSDT"), entry(5, rule_type="old")])
    assert found.added == sorted([entry(130), entry(8, "CUSDT"), entry(5, rule_type="new")])
    assert found.counts() == {"new": (0, 1, 0, 0), "old": (0, 0, 1, 0), "rule": (1, 2, 2, 1)}


def test_each_alert_moves_once_to_the_nearest():
    found = compare([entry(10), entry(14)], [entry(13), entry(29)])
    assert found.moved == [(entry(14), entry(13))]
    assert found.removed == [entry(10)]
    assert found.added == [entry(29)]
    assert compare([entry(10), entry(14)], [entry(13), entry(20)]).moved == [
        (entry(10), entry(20)),
        (entry(14), entry(13)),
    ]
