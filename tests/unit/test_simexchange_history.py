"""Klines of all intervals against bars made by hand from the minutes, and candle files as markets."""

from __future__ import annotations

from functools import cache
from itertools import groupby

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.candle_files.reader import read_candles
from app.candles.batch import MINUTE_MS
from app.local.exchange.history import Asked, History, KeptDays
from app.local.exchange.intervals import LENGTHS
from app.local.exchange.market.file import FileMarket
from app.local.exchange.market.planes import NAMES, Planes, stack
from app.local.exchange.market.simulated import SimulatedMarket
from tests.support.candle_batches import Candle, batch_of
from tests.support.market_data import FULL_2024, market_data_dir
from tests.unit.test_simexchange_intervals import calendar_open

FIRST_DAY = 19_780
NOW = (FIRST_DAY + 2) * 1440 + 765
Bar = tuple[float, ...]


@pytest.fixture(scope="module")
def history() -> History:
    return History(SimulatedMarket(5, seed=3), FIRST_DAY)


opened_by_calendar = cache(calendar_open)


def by_hand(minutes: list[Bar], interval: str, asked: Asked) -> list[Bar]:
    """Bars of (minute, open, high, low, close, volume, quote volume, trades) rows, then what was asked for."""
    bars = []
    for opened, group in groupby(minutes, lambda row: opened_by_calendar(interval, int(row[0]))):
        rows = list(group)
        start = int(opened.timestamp()) // 60
        bars.append(
            (start, rows[0][1], max(row[2] for row in rows), min(row[3] for row in rows), rows[-1][4],
             *(sum(row[column] for row in rows) for column in (5, 6, 7)))
        )  # fmt: skip
    if asked.end_ms is not None:
        bars = [bar for bar in bars if bar[0] * MINUTE_MS <= asked.end_ms]
    if asked.start_ms is None:
        return bars[-asked.limit :]
    return [bar for bar in bars if bar[0] * MINUTE_MS >= asked.start_ms][: asked.limit]


def rows_of(minutes: np.ndarray, planes: Planes) -> list[Bar]:
    columns = (getattr(planes, name).tolist() for name in NAMES if name != "taker_volume")
    opened, high, low, close, volume, quote_volume, trades = columns
    return list(zip(minutes.tolist(), opened, high, low, close, volume, quote_volume, trades, strict=True))


MOMENTS = st.none() | st.integers((FIRST_DAY - 1) * 1440, NOW + 60).map(lambda minute: minute * MINUTE_MS + 7)


@settings(max_examples=60, deadline=None)
@given(
    interval=st.sampled_from(list(LENGTHS)),
    start_ms=MOMENTS,
    end_ms=MOMENTS,
    limit=st.integers(1, 1500),
    listed=st.sampled_from([0, FIRST_DAY * 1440, FIRST_DAY * 1440 + 777, NOW - 3, NOW]),
    with_forming=st.booleans(),
)
@example("1M", None, None, 1500, 0, True)
@example("1d", FIRST_DAY * 86_400_000, None, 2, 0, False)
def test_klines_are_the_bars_of_their_minutes(
    history: History,
    interval: str,
    start_ms: int | None,
    end_ms: int | None,
    limit: int,
    listed: int,
    with_forming: bool,
):
    asked = Asked(interval, start_ms, end_ms, limit)
    begins = max(listed, history.first_minute)
    forming = history.rows(NOW, NOW + 1)[0, 2] if with_forming else None
    planes = [history.rows(begins, NOW)[:, 2]] if begins < NOW else []
    planes += [] if forming is None else [forming[None]]
    minutes = np.arange(begins, begins + sum(len(part.open) for part in planes))
    expected = by_hand(rows_of(minutes, stack(planes)) if planes else [], interval, asked)

    for step in history.steps(2, asked, listed, NOW):
        step()
    klines = history.klines(2, asked, listed, NOW, forming)
    found = rows_of(klines.open_minutes, klines.bars)
    assert [bar[:5] for bar in found] == [bar[:5] for bar in expected]
    for column in (5, 6, 7):
        assert [bar[column] for bar in found] == pytest.approx([bar[column] for bar in expected], rel=1e-12)


@pytest.mark.parametrize("minutes", [1, 77, 765, 1440, 3000])
def test_one_bar_of_all_contracts_is_made_of_the_minutes_since_their_listing(history: History, minutes: int):
    start = NOW - minutes
    first = np.full(len(history.market.contracts), 0)
    first[1], first[3] = start + minutes // 2, NOW + 10
    found = history.window_bars(start, NOW, first)
    for contract in range(4):
        begins = max(start, int(first[contract]))
        if begins >= NOW:
            assert found.open[contract] == found.volume[contract] == 0
            continue
        rows = history.rows(begins, NOW)[:, contract]
        assert found.open[contract] == rows.open[0]
        assert found.close[contract] == rows.close[-1]
        assert (found.high[contract], found.low[contract]) == (rows.high.max(), rows.low.min())
        assert found.quote_volume[contract] == pytest.approx(rows.quote_volume.sum(), rel=1e-12)


def test_days_are_forgotten_beyond_the_memory_given(history: History):
    market = history.market
    frugal = History(market, FIRST_DAY, kept_bytes=0, kept_days=1)
    for day in range(2):
        assert np.array_equal(
            frugal.rows((FIRST_DAY + day) * 1440, (FIRST_DAY + day) * 1440 + 5).close,
            history.rows((FIRST_DAY + day) * 1440, (FIRST_DAY + day) * 1440 + 5).close,
        )
    assert len(frugal._minutes) == 1


def test_the_days_used_last_are_kept_as_long_as_there_is_room():
    planes = SimulatedMarket(1, seed=1).day(FIRST_DAY, 0)
    kept = KeptDays(2 * planes.nbytes, at_least=1)
    for day in (1, 2):
        kept.put((day, 0), planes)
    assert kept.get((1, 0)) is planes
    kept.put((3, 0), planes)
    assert [(day, 0) in kept for day in (1, 2, 3)] == [True, False, True]


@pytest.mark.parametrize("moved", [False, True])
def test_a_candle_file_is_a_market_of_its_own_candles(moved: bool):
    candles = read_candles(market_data_dir() / FULL_2024)
    begins_ms = 1_800_000_000_000 + 12_345 if moved else None
    market = FileMarket(candles, 1, begins_ms=begins_ms)
    first, last = market.first_minute(), market.last_minute()
    assert first is not None
    assert last is not None
    assert market.start_ms // MINUTE_MS - first == 1440
    assert last - first == (candles.open_time_ms[-1] - candles.open_time_ms[0]) // MINUTE_MS
    planes = History(market, 0).rows(first, last + 1)
    shift = first - int(candles.open_time_ms[0]) // MINUTE_MS
    at = (candles.open_time_ms // MINUTE_MS + shift - first, candles.symbol_index)
    for name in ("open", "high", "low", "close"):
        decimals = [contract.price_decimals for contract in market.contracts]
        prices = getattr(planes, name)[at] / 10.0 ** np.array(decimals)[candles.symbol_index]
        assert np.array_equal(prices, getattr(candles, name))
    for ours, theirs in (("volume", "volume"), ("quote_volume", "quote_volume"), ("trades", "trades")):
        assert np.array_equal(getattr(planes, ours)[at], getattr(candles, theirs))


def test_minutes_that_a_file_lacks_are_in_no_bar():
    rows = [Candle("AUSDT", minute, price) for minute, price in ((100, 1.5), (103, 1.25), (104, 1.75))]
    rows.append(Candle("BUSDT", 100, 2.0))
    history = History(FileMarket(batch_of(rows), 1, begins_ms=None), 0)
    ones = history.klines(0, Asked("1m", None, None, 10), 100, 105, None)
    assert ones.bars.close.tolist() == [150, 0, 0, 125, 175]
    fives = history.klines(0, Asked("5m", None, None, 10), 100, 105, None)
    assert [getattr(fives.bars, name).tolist() for name in ("open", "high", "low", "close")] == [
        [150], [175], [125], [175]
    ]  # fmt: skip
    assert history.klines(1, Asked("5m", None, None, 10), 100, 105, None).bars.close.tolist() == [20]
