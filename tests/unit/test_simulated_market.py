"""The simulated market: valid, repeatable, independent of how it is looked at, and lively enough."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.candles.batch import COLUMNS, MINUTE_MS, CandleBatch
from app.candles.validity import check
from app.ingress.simulated import SimulatedMarket, simulated_symbols
from tests.oracle.alerts import close_mode_alerts_of
from tests.oracle.rules import RULES

DAY_MS = 1440 * MINUTE_MS
MIDNIGHT_MS = 19_700 * DAY_MS


def same(left: CandleBatch, right: CandleBatch) -> bool:
    return left.symbols == right.symbols and all(
        np.array_equal(getattr(left, name), getattr(right, name)) for name in COLUMNS
    )


@settings(max_examples=25, deadline=None)
@given(
    symbols=st.integers(1, 30),
    seed=st.integers(0, 2**32),
    start_minute=st.integers(0, 30),
    looks_ms=st.lists(st.integers(1, 200_000), min_size=1, max_size=12),
)
def test_every_candle_is_valid_and_every_minute_closes_once(
    symbols: int, seed: int, start_minute: int, looks_ms: list[int]
):
    now_ms = MIDNIGHT_MS + start_minute * MINUTE_MS
    market = SimulatedMarket(symbols, seed, now_ms)
    first_open_ms = now_ms
    closed_ms = []
    for look_ms in looks_ms:
        now_ms += look_ms
        batch = market.step(now_ms)
        assert check(batch, now_ms) == []
        assert batch.close.min() > 0
        forming = batch.take(~batch.closed)
        assert set(forming.open_time_ms.tolist()) == {now_ms - now_ms % MINUTE_MS}
        assert len(forming) == symbols
        closed_ms += batch.open_time_ms[batch.closed].tolist()
    minutes = range(first_open_ms, now_ms - now_ms % MINUTE_MS, MINUTE_MS)
    assert closed_ms == [minute for minute in minutes for _ in range(symbols)]


def test_one_seed_gives_one_market_and_another_seed_another():
    one, again, other = (SimulatedMarket(20, seed, MIDNIGHT_MS).history(30) for seed in (5, 5, 6))
    assert same(one, again)
    assert not np.array_equal(one.close, other.close)


@pytest.mark.parametrize("later_minutes", [1, 700, 1440, 1500])
def test_a_market_that_starts_later_tells_the_same_story(later_minutes: int):
    from_midnight = SimulatedMarket(3, 5, MIDNIGHT_MS)
    from_midnight.history(later_minutes)
    later = SimulatedMarket(3, 5, MIDNIGHT_MS + later_minutes * MINUTE_MS + 12_345)
    assert same(from_midnight.history(20), later.history(20))


def test_looking_at_the_forming_minute_does_not_change_what_it_closes_with():
    watched, unwatched = SimulatedMarket(10, 5, MIDNIGHT_MS), SimulatedMarket(10, 5, MIDNIGHT_MS)
    for second in range(60):
        watched.step(MIDNIGHT_MS + second * 1000)
    closing = watched.step(MIDNIGHT_MS + MINUTE_MS)
    assert same(closing.take(closing.closed), unwatched.history(1))


def test_a_forming_candle_only_grows():
    market = SimulatedMarket(10, 5, MIDNIGHT_MS)
    looks = [market.step(MIDNIGHT_MS + second * 1000) for second in range(60)]
    for earlier, later in pairwise(looks):
        assert np.array_equal(earlier.open, later.open)
        assert (earlier.high <= later.high).all()
        assert (earlier.low >= later.low).all()
        assert (earlier.volume <= later.volume).all()
    assert (looks[0].volume < looks[-1].volume).all()


def test_a_clock_that_steps_back_within_the_minute_or_before_it_is_harmless():
    market = SimulatedMarket(3, 5, MIDNIGHT_MS)
    market.step(MIDNIGHT_MS + 90_000)
    batch = market.step(MIDNIGHT_MS + 30_000)
    assert not batch.closed.any()
    assert set(batch.open_time_ms.tolist()) == {MIDNIGHT_MS + MINUTE_MS}


def test_candles_open_where_the_one_before_closed_and_cost_between_low_and_high():
    symbols = 15
    candles = SimulatedMarket(symbols, 5, MIDNIGHT_MS).history(600)
    assert np.array_equal(candles.open[symbols:], candles.close[:-symbols])
    traded = candles.volume > 1
    vwap = candles.quote_volume[traded] / candles.volume[traded]
    assert (vwap >= candles.low[traded] * 0.999).all()
    assert (vwap <= candles.high[traded] * 1.001).all()


def test_prices_hold_no_more_digits_than_their_tick():
    candles = SimulatedMarket(40, 5, MIDNIGHT_MS).history(5)
    assert max(len(repr(price).replace(".", "").strip("0")) for price in candles.close.tolist()) <= 6


def test_symbols_are_distinct_and_their_number_is_as_asked():
    for count in (1, 12, 13, 500):
        assert len(set(simulated_symbols(count))) == count


def test_after_a_day_all_ten_rules_fire_and_some_alert_every_few_minutes():
    candles = SimulatedMarket(120, 1, MIDNIGHT_MS).history(2 * 1440)
    alerts = close_mode_alerts_of(
        {
            "symbol": np.array(candles.symbols)[candles.symbol_index],
            "open_time_ms": candles.open_time_ms,
            "close": candles.close,
            "quote_volume": candles.quote_volume,
        }
    )
    second_day = [alert for alert in alerts if alert[2] >= MIDNIGHT_MS + DAY_MS]
    assert {rule_type for rule_type, _, _ in second_day} == set(RULES)
    minutes = sorted({open_time_ms for _, _, open_time_ms in second_day})
    gaps = [later - earlier for earlier, later in pairwise(minutes)]
    assert np.mean(gaps) < 5 * MINUTE_MS
    assert max(gaps) < 60 * MINUTE_MS
