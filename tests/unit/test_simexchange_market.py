"""The simulated market: valid, repeatable, the same however it is looked at, and lively enough for every rule."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.backtest.backtest import Backtest
from app.candles.validity import check
from app.local.exchange.market.market import Market
from app.local.exchange.market.path import STEPS, walk
from app.local.exchange.market.planes import NAMES, Planes
from app.local.exchange.market.simulated import SimulatedMarket
from app.rules.evaluation.rulebook import RuleBook
from app.rules.files import shipped_rules
from tests.support.simulated_batches import batch_of_day

DAY = 20_780


def same(left: Planes, right: Planes) -> bool:
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in NAMES)


@pytest.fixture(scope="module")
def market() -> Market:
    return SimulatedMarket(120, seed=1)


@pytest.fixture(scope="module")
def day(market: Market) -> Planes:
    return market.day(DAY, 0)


def test_one_seed_gives_one_market_and_another_seed_another(day: Planes):
    assert same(SimulatedMarket(120, seed=1).day(DAY, 0), day)
    assert not np.array_equal(SimulatedMarket(120, seed=2).day(DAY, 0).close, day.close)


def test_a_contract_has_the_same_candles_however_many_others_there_are(day: Planes):
    small, large = SimulatedMarket(3, seed=1), SimulatedMarket(400, seed=1)
    assert same(small.day(DAY, 0), day)
    assert same(large.day(DAY, 0), day)
    assert large.contracts[: len(small.contracts)] == small.contracts


def test_blocks_and_days_differ(market: Market, day: Planes):
    assert not np.array_equal(SimulatedMarket(400, seed=1).day(DAY, 1).close, day.close)
    assert not np.array_equal(market.day(DAY + 1, 0).close, day.close)


def test_a_day_opens_where_the_one_before_closed(market: Market, day: Planes):
    assert np.array_equal(market.day(DAY + 1, 0).open[0], day.close[-1])


def test_every_candle_is_valid_and_opens_where_the_one_before_closed(market: Market, day: Planes):
    candles = batch_of_day(market, DAY, 120)
    assert check(candles, int(candles.open_time_ms.max())) == []
    assert candles.close.min() > 0
    assert np.array_equal(day.open[1:], day.close[:-1])
    vwap = candles.quote_volume / candles.volume
    assert (vwap >= candles.low * (1 - 1e-6)).all()
    assert (vwap <= candles.high * (1 + 1e-6)).all()
    assert (candles.taker_buy_volume <= candles.volume * (1 + 1e-12)).all()


def test_symbols_are_distinct_and_some_wait_for_their_listing():
    for count in (1, 12, 124, 128, 500):
        market = SimulatedMarket(count, seed=1)
        symbols = [contract.symbol for contract in market.contracts]
        assert len(set(symbols)) == len(symbols) >= count + 4
        assert market.first_listed == count


def test_within_a_day_after_the_first_every_shipped_rule_fires_and_no_flood_comes(market: Market):
    book = RuleBook.compile([replace(rule, enabled=True) for rule in shipped_rules()], "close")
    run = Backtest(book)
    for number in (DAY, DAY + 1):
        candles = batch_of_day(market, number, 120)
        for part in range(0, len(candles), 20 * 120):
            run.feed(candles.take(slice(part, part + 20 * 120)))
    second_day = [entry for entry in run.entries if entry.open_time_ms >= (DAY + 1) * 86_400_000]
    fires = Counter(entry.rule_type for entry in second_day)
    assert set(fires) == {rule.rule_type for rule in shipped_rules()}
    enabled = {rule.rule_type for rule in shipped_rules() if rule.enabled}
    a_minute = sum(fires[rule_type] for rule_type in enabled) / 1440
    assert 0.5 < a_minute < 6


@st.composite
def whole_minutes(draw: st.DrawFn) -> Planes:
    """Candles of up to four contracts, in ticks."""
    rows = draw(st.lists(st.lists(st.integers(1, 3_000), min_size=4, max_size=4), min_size=1, max_size=4))
    prices = np.sort(np.array(rows, dtype=np.int32), axis=1)
    swap = draw(st.booleans())
    low, first, second, high = prices.T
    lots = np.array(
        draw(st.lists(st.integers(0, 100_000), min_size=len(rows), max_size=len(rows))), dtype=float
    )
    volume = lots / 10
    return Planes(
        open=second if swap else first,
        high=high,
        low=low,
        close=first if swap else second,
        volume=volume,
        quote_volume=volume * (high + low) / 20,
        taker_volume=np.floor(lots / 2) / 10,
        trades=lots.astype(np.int64),
    )


@settings(max_examples=60, deadline=None)
@given(whole=whole_minutes(), minute=st.integers(0, 40_000_000))
def test_a_minute_grows_from_its_open_over_high_and_low_to_its_close(whole: Planes, minute: int):
    path = walk(whole, 1, minute)
    lot, tick = np.full(len(whole.open), 0.1), np.full(len(whole.open), 0.1)
    looks = [path.at(step / STEPS, lot, tick) for step in range(STEPS)]
    for earlier, later in pairwise(looks):
        assert (earlier.high <= later.high).all()
        assert (earlier.low >= later.low).all()
        assert (earlier.volume <= later.volume).all()
        assert (earlier.trades <= later.trades).all()
    for look in looks:
        assert np.array_equal(look.open, whole.open)
        assert ((look.low <= look.close) & (look.close <= look.high)).all()
        assert (look.quote_volume <= look.volume * look.high * 0.1 + 1e-9).all()
        assert (look.quote_volume >= look.volume * look.low * 0.1 - 1e-9).all()
    last = looks[-1]
    assert np.array_equal(last.high, whole.high)
    assert np.array_equal(last.low, whole.low)
    assert np.array_equal(last.close, whole.close)
    assert (last.volume <= whole.volume + 1e-9).all()


def test_the_way_through_a_minute_is_the_same_however_many_contracts_there_are(day: Planes):
    few, many = walk(day[700, :5], 1, DAY * 1440 + 700), walk(day[700], 1, DAY * 1440 + 700)
    assert np.array_equal(few.close, many.close[:, :5])
    assert np.array_equal(few.share, many.share[:, :5])
