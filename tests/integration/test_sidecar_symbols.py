"""Symbols and tickers over a running sidecar, and answers that the client has already."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from app.clock import SystemClock
from app.settings import Settings
from app.wire.tickers import Ticker, TickerStore
from tests.support.database import candles, store
from tests.support.eventually import eventually
from tests.support.five_symbols import START_MS, SYMBOLS, all_known
from tests.support.metric_batches import publish_metrics, publish_sealed_minute
from tests.support.sidecar import prepare, running_sidecar

MINUTE_MS = 60_000


@pytest.fixture(autouse=True)
async def _prepared(settings: Settings) -> None:
    await prepare(settings)


async def test_symbols_are_those_that_metrics_were_seen_of(settings):
    await publish_metrics(settings, SYMBOLS)
    async with running_sidecar(settings) as client:
        await all_known(client)
        status, body = await client.get("/api/symbols")
        assert (status, [one["symbol"] for one in body["symbols"]]) == (
            200,
            ["ADAUSDT", "BTCUSDT", "ETHUSDT", "OLDUSDT", "XRPUSDT"],
        )
        assert body["symbols"][3] == {
            "symbol": "OLDUSDT",
            "exchange": "binance",
            "timestamp": "2024-02-28T23:01:00.000Z",
        }
        await client.assert_refused({"/api/symbols?symbol=BTCUSDT": (400, "unknown_parameter")})


def ticker(symbol: str, price: float) -> Ticker:
    return Ticker(symbol, price, 1.5, price * 2, price / 2, 1000.0, 1000.0 * price, START_MS)


async def test_tickers_come_from_the_hash_that_the_feed_writes(settings):
    redis = Redis.from_url(settings.server_urls().redis)
    store = TickerStore(redis, settings.names())
    await store.write([ticker("BTCUSDT", 60_000.0), ticker("ADAUSDT", 0.5)])
    async with running_sidecar(settings) as client:
        status, body = await client.get("/api/tickers")
        assert status == 200
        assert [one["symbol"] for one in body["tickers"]] == ["ADAUSDT", "BTCUSDT"]
        assert body["tickers"][0] == {
            "symbol": "ADAUSDT",
            "last_price": 0.5,
            "price_change_pct": 1.5,
            "high": 1.0,
            "low": 0.25,
            "volume": 1000.0,
            "quote_volume": 500.0,
            "timestamp": "2024-02-29T00:00:00.000Z",
        }
        _, body = await client.get("/api/tickers", symbols="BTCUSDT")
        assert [one["symbol"] for one in body["tickers"]] == ["BTCUSDT"]
        await store.write([ticker("BTCUSDT", 61_000.0)])

        async def is_new() -> bool:
            _, body = await client.get("/api/tickers", symbols="BTCUSDT")
            return bool(body["tickers"][0]["last_price"] == 61_000.0)

        await eventually(is_new)
        await client.assert_refused(
            {
                "/api/tickers?symbols=NOSUCH": (404, "unknown_symbol"),
                "/api/tickers?symbols=a%20b": (400, "bad_parameter"),
                "/api/tickers?symbol=BTCUSDT": (400, "unknown_parameter"),
            },
        )
    await redis.aclose()


async def test_an_unchanged_answer_is_not_sent_again(settings):
    await publish_metrics(settings, SYMBOLS)
    await store(settings, candles(["BTCUSDT"], 5, START_MS))
    paths = [
        "/api/metrics",
        "/api/metrics/BTCUSDT",
        "/api/symbols",
        "/api/screener?where=price%3E0",
        "/api/klines?symbol=BTCUSDT&interval=1m",
        "/api/tickers",
        "/api/alerts",
        "/api/rules",
        "/api/openapi.json",
    ]
    async with running_sidecar(settings) as client:
        await all_known(client)
        for path in paths:
            async with client.session.get(path) as response:
                tag, body = response.headers["ETag"], await response.read()
                assert (response.status, response.headers["Cache-Control"]) == (200, "no-cache"), path
            for known in (tag, f'"other", W/{tag}', "*"):
                async with client.session.get(path, headers={"If-None-Match": known}) as response:
                    assert (response.status, await response.read()) == (304, b""), (path, known)
                    assert response.headers["ETag"] == tag
            async with client.session.get(path, headers={"If-None-Match": '"other"'}) as response:
                assert (response.status, await response.read()) == (200, body), path
        async with client.session.get("/api/metrics/BTCUSDT") as response:
            tag = response.headers["ETag"]
        await publish_metrics(settings, [("BTCUSDT", START_MS + MINUTE_MS, {"close_1m": 1.0})])

        async def has_changed() -> bool:
            async with client.session.get("/api/metrics/BTCUSDT", headers={"If-None-Match": tag}) as response:
                return response.status == 200

        await eventually(has_changed)


async def test_a_symbol_in_chinese_is_found_in_paths_queries_and_expressions(settings):
    name, minute_ms = "\u9f99\u867eUSDT", SystemClock().now_ms() // 60_000 * 60_000 - 60_000
    await store(settings, candles([name], 5))
    async with running_sidecar(settings) as client:
        rows = [(name, minute_ms, {"close_1m": 2.0}), ("BTCUSDT", minute_ms, {"close_1m": 1.0})]
        await publish_metrics(settings, rows)
        await publish_sealed_minute(settings, rows)
        await eventually(lambda: len(client.sidecar.parts.latest) == 2)
        assert (await client.get(f"/api/metrics/{name}"))[1]["symbol"] == name
        status, bars = await client.get("/api/klines", symbol=name, interval="1m", startTime="0")
        assert (status, len(bars)) == (200, 5)

        async def is_found() -> bool:
            _, found = await client.get("/api/screener", where=f"price > 1 and of({name}, price) > 1")
            return [row["symbol"] for row in found["symbols"]] == [name]

        await eventually(is_found)
        _, explained = await client.get("/api/explain", symbol=name, rule="futures_pioneer_bull")
        assert explained["symbol"] == name
