"""A symbol in Chinese between the feed's clients and the simulated exchange: REST queries, stream names, candles."""

from __future__ import annotations

import asyncio

import aiohttp
from prometheus_client import CollectorRegistry

from app.database.migrate import migrate
from app.feed.exchanges.binance import BinanceFutures
from app.feed.exchanges.rate_limit import RateLimit
from app.feed.exchanges.rest import RestClient
from app.feed.sockets.socket import Socket, Streams, always_room
from app.local.exchange.market.simulated import SimulatedMarket
from app.settings import Settings
from app.telemetry import feed_metrics
from tests.support.eventually import eventually
from tests.support.feeds import running_feed
from tests.support.sim_exchange import MINUTE_MS, NOON_MS, sim_exchange

METRICS = feed_metrics(CollectorRegistry())

CHINESE = "\u9f99\u867eUSDT"


def market() -> SimulatedMarket:
    """Two of its fourteen contracts are named in Chinese."""
    return SimulatedMarket(14, seed=5)


async def test_a_symbol_in_chinese_is_listed_asked_for_and_streamed():
    venue = BinanceFutures()
    async with sim_exchange(market()) as client, aiohttp.ClientSession() as session:
        rest = RestClient(session, venue, client.url, RateLimit(2_000, METRICS), METRICS)
        listed = await client.get("/fapi/v1/exchangeInfo")
        assert CHINESE in {one["symbol"] for one in listed["symbols"]}
        assert CHINESE in {ticker.symbol for ticker in await venue.tickers(rest.get)}
        bars = await venue.klines(rest.get, CHINESE, "1m", NOON_MS - 10 * MINUTE_MS, NOON_MS - MINUTE_MS)
        assert bars is not None
        assert (bars.symbols, len(bars)) == ((CHINESE,), 10)

        frames: list[bytes] = []
        url = venue.stream_url(client.url + "/market/stream", [CHINESE, "ETHUSDT"])
        socket = Socket(session, Streams(url), frames.append, always_room, connect_s=5.0, stale_s=30.0)

        def symbols() -> set[str]:
            reading = venue.read(list(frames), NOON_MS)
            assert reading.unreadable == []
            return set() if reading.candles is None else set(reading.candles.symbols)

        try:
            await asyncio.wait_for(socket.opened.wait(), 10)
            await eventually(lambda: symbols() == {CHINESE, "ETHUSDT"})
        finally:
            await socket.close()


async def test_the_feed_follows_it_from_the_list_to_nats(settings: Settings):
    await asyncio.to_thread(migrate, settings.postgres())
    async with sim_exchange(market(), history_days=1) as client:
        urls = {
            "exchange_rest_url": client.url,
            "exchange_ws_url": client.url.replace("http", "ws", 1) + "/market/stream",
        }
        async with running_feed(settings.model_copy(update=urls)) as running:
            await eventually(lambda: CHINESE in running.feed.live)
            over_ms = await client.next_minute()

            async def streamed() -> bool:
                return over_ms in await running.closed_minutes(CHINESE)

            await eventually(streamed)
            subjects = {subject for subject, _ in await running.messages()}
            assert any(subject.startswith("candles.live.") for subject in subjects)
            assert not any("invalid-" in subject for subject in subjects)
            assert CHINESE in {symbol for symbol, _, _ in await running.candles(closed=False)}
