"""The feed as the exchange's list of contracts changes, or cannot be had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from app.database.migrate import migrate
from app.settings import Settings
from tests.support.eventually import eventually
from tests.support.feeds import RECORDED_MINUTE_MS, has_minutes, only, running_feed, speaking_to, started
from tests.support.kline_frames import frame
from tests.support.recorded_exchange import RecordedExchange, recorded_exchange

MINUTE_MS = 60_000


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[RecordedExchange]:
    await asyncio.to_thread(migrate, settings.postgres())
    async with recorded_exchange(now_ms=RECORDED_MINUTE_MS + 30_000) as running:
        yield running


async def test_listings_and_delistings_are_followed_while_running(
    settings: Settings, exchange: RecordedExchange
):
    all_symbols = exchange.symbols
    only(exchange, "BTCUSDT", "ETHUSDT")
    async with running_feed(speaking_to(exchange, settings)) as running:
        await started(running, exchange, live=2)
        await exchange.send(frame("BTCUSDT", RECORDED_MINUTE_MS, closed=False))
        exchange.symbols = [one for one in all_symbols if one["symbol"] in ("BTCUSDT", "SUSHIUSDT")]
        wanted = {"btcusdt@kline_1m", "sushiusdt@kline_1m"}
        await eventually(lambda: wanted in exchange.streams())
        await exchange.send(frame("SUSHIUSDT", RECORDED_MINUTE_MS, closed=False), stream="sushiusdt@kline_1m")
        await eventually(lambda: sorted(running.feed.live) == ["BTCUSDT", "SUSHIUSDT"])
        await eventually(lambda: [wanted] == [s for s in exchange.streams() if "!ticker@arr" not in s])
        await eventually(lambda: has_minutes(running, "SUSHIUSDT", 1))


async def test_a_symbol_that_is_delisted_within_a_minute_is_owed_that_minute_and_no_other(
    settings: Settings, exchange: RecordedExchange
):
    only(exchange, "BTCUSDT", "ETHUSDT")
    async with running_feed(speaking_to(exchange, settings)) as running:
        await started(running, exchange, live=2)
        exchange.symbols = [one for one in exchange.symbols if one["symbol"] == "BTCUSDT"]
        await eventually(lambda: running.feed.live == {"BTCUSDT"})
        # so many that the first try for the last minute fails as a whole
        exchange.faults = [web.Response(status=503) for _ in range(4)]
        exchange.now_ms += 3 * MINUTE_MS
        later_ms = RECORDED_MINUTE_MS + 3 * MINUTE_MS
        await exchange.send(frame("BTCUSDT", later_ms, closed=False))
        await eventually(lambda: has_minutes(running, "BTCUSDT", 4))
        await eventually(lambda: has_minutes(running, "ETHUSDT", 2))
        await eventually(lambda: running.feed.facts()["owed_minutes"] == 0)
        assert await running.closed_minutes("ETHUSDT") == [RECORDED_MINUTE_MS - MINUTE_MS, RECORDED_MINUTE_MS]
        assert max(int(one["endTime"]) for one in exchange.klines_asked if one["symbol"] == "ETHUSDT") == (
            RECORDED_MINUTE_MS
        )


async def test_a_symbol_that_comes_back_within_the_minute_goes_on_as_if_it_had_stayed(
    settings: Settings, exchange: RecordedExchange
):
    only(exchange, "BTCUSDT", "ETHUSDT")
    both = exchange.symbols
    async with running_feed(speaking_to(exchange, settings)) as running:
        await started(running, exchange, live=2)
        exchange.symbols = [one for one in both if one["symbol"] == "BTCUSDT"]
        await eventually(lambda: running.feed.live == {"BTCUSDT"})
        exchange.symbols = both
        await eventually(lambda: running.feed.live == {"BTCUSDT", "ETHUSDT"})
        exchange.now_ms += 3 * MINUTE_MS
        await exchange.send(frame("BTCUSDT", RECORDED_MINUTE_MS + 3 * MINUTE_MS, closed=False))
        await eventually(lambda: has_minutes(running, "ETHUSDT", 4))
        assert await running.closed_minutes("ETHUSDT") == [
            RECORDED_MINUTE_MS + n * MINUTE_MS for n in (-1, 0, 1, 2)
        ]


async def test_a_symbol_that_leaves_and_comes_back_while_its_history_is_fetched_still_begins_with_it(
    settings: Settings, exchange: RecordedExchange
):
    only(exchange, "BTCUSDT", "ETHUSDT")
    both = exchange.symbols
    exchange.answers_klines.clear()
    async with running_feed(speaking_to(exchange, settings)) as running:
        await eventually(lambda: len(exchange.klines_asked) == 2)
        exchange.symbols = both[:1]
        await eventually(lambda: running.feed.facts()["followed"] == 1)
        exchange.symbols = both
        await eventually(lambda: running.feed.facts()["followed"] == 2)
        # a whole look later the market is as before, and still nothing of it goes on
        looks = exchange.paths.count("/fapi/v1/exchangeInfo")
        await eventually(lambda: exchange.paths.count("/fapi/v1/exchangeInfo") >= looks + 2)
        assert running.feed.live == set()
        exchange.answers_klines.set()
        await eventually(lambda: running.feed.live == {"BTCUSDT", "ETHUSDT"})


async def test_an_exchange_that_is_away_at_the_start_is_waited_for(
    settings: Settings, exchange: RecordedExchange
):
    only(exchange, "BTCUSDT")
    urls = {"exchange_rest_url": "http://127.0.0.1:1", "exchange_ws_url": "ws://127.0.0.1:1"}
    async with running_feed(settings.model_copy(update=urls)) as running:
        await eventually(lambda: running.feed.facts()["universe_failures"] >= 1)
        assert running.readiness == []
