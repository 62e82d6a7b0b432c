"""24 h tickers in Redis itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest
from redis.asyncio import Redis

from app.settings import Settings
from app.wire.redis import connect_redis
from app.wire.tickers import ExchangeDay, Ticker, TickerStore

NOW_MS = 1_700_000_000_123


def ticker(symbol: str, last_price: float = 101.5) -> Ticker:
    return Ticker(symbol, last_price, 1.5, 103.0, 98.0, 12.5, 1_250.75, NOW_MS)


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    connection = connect_redis(settings.server_urls().redis)
    yield connection
    await connection.aclose()


@pytest.fixture
def store(redis: Redis, settings: Settings) -> TickerStore:
    return TickerStore(redis, settings.names())


async def test_what_is_written_is_read_whole_and_by_name(store: TickerStore):
    await store.write([ticker("ETHUSDT"), ticker("BTCUSDT")])
    assert await store.read() == [ticker("BTCUSDT"), ticker("ETHUSDT")]


async def test_the_exchanges_own_digits_are_kept_and_without_all_of_them_none(
    store: TickerStore, redis: Redis, settings: Settings
):
    day = ExchangeDay("1.50", "1.0", "2", "3.0", "0", "1", "4", "1", "5", "6", NOW_MS - 86_400_000, NOW_MS, 3)
    whole = replace(ticker("BTCUSDT"), day=day)
    await store.write([whole])
    assert await store.read() == [whole]
    document = orjson.loads(await redis.hget(settings.name("tickers"), "BTCUSDT"))
    for wrong in ({"open": 1.0}, {"trades": "3"}, {"trades": True}):
        changed = orjson.dumps(document | {"day": document["day"] | wrong})
        await redis.hset(settings.name("tickers"), "BTCUSDT", changed)
        assert await store.read() == [ticker("BTCUSDT")]


async def test_symbols_asked_for_come_in_that_order_and_unknown_ones_are_left_out(store: TickerStore):
    await store.write([ticker("BTCUSDT"), ticker("ETHUSDT"), ticker("SOLUSDT")])
    found = await store.read(["SOLUSDT", "NOSUCHUSDT", "BTCUSDT"])
    assert [one.symbol for one in found] == ["SOLUSDT", "BTCUSDT"]
    assert await store.read([]) == []


async def test_a_later_ticker_replaces_and_a_removed_one_is_gone(store: TickerStore):
    await store.write([ticker("BTCUSDT", 1.0), ticker("ETHUSDT")])
    await store.write([ticker("BTCUSDT", 2.0)])
    await store.remove(["ETHUSDT"])
    assert await store.read() == [ticker("BTCUSDT", 2.0)]


async def test_an_empty_store_has_no_tickers(store: TickerStore):
    await store.write([])
    await store.remove([])
    assert await store.read() == []


async def test_the_hash_has_the_documented_name_and_a_value_of_another_version_is_passed_over(
    store: TickerStore, redis: Redis, settings: Settings
):
    await store.write([ticker("BTCUSDT")])
    key = settings.name("tickers")
    assert await redis.hkeys(key) == [b"BTCUSDT"]
    await redis.hset(
        key, mapping={"ETHUSDT": b"not json", "SOLUSDT": b'{"symbol": "SOLUSDT"}', "XRPUSDT": b"3"}
    )
    assert await store.read() == [ticker("BTCUSDT")]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_ts_ms", 1_700_000_000_000_000),
        ("event_ts_ms", "now"),
        ("event_ts_ms", True),
        ("last_price", None),
        ("last_price", "1.5"),
        ("symbol", 5),
    ],
)
async def test_a_ticker_with_an_impossible_value_is_passed_over_and_the_others_are_read(
    field: str, value: object, store: TickerStore, redis: Redis, settings: Settings
):
    await store.write([ticker("BTCUSDT"), ticker("ETHUSDT")])
    key = settings.name("tickers")
    document = orjson.loads(await redis.hget(key, "ETHUSDT"))
    await redis.hset(key, "ETHUSDT", orjson.dumps(document | {field: value}))
    assert await store.read() == [ticker("BTCUSDT")]
