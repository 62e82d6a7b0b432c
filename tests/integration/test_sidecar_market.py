"""Screener, symbols, klines and tickers over a running sidecar."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis

from app.candles.batch import CandleBatch
from app.clock import SystemClock
from app.database.connection import open_pool
from app.settings import Settings
from app.sinks.copy import write_candles
from app.wire.tickers import Ticker, TickerStore
from tests.support.database import candles
from tests.support.eventually import eventually
from tests.support.metric_batches import Row, publish_metrics, publish_sealed_minute
from tests.support.sidecar import Client, prepare, running_sidecar

MINUTE_MS = 60_000
DAY_MS = 86_400_000
START_MS = 1_709_164_800_000
"""2024-02-29 00:00 UTC, a Thursday, the last day of its month."""


@pytest.fixture(autouse=True)
async def _prepared(settings: Settings) -> None:
    await prepare(settings)


async def store(settings: Settings, batch: CandleBatch) -> None:
    async with await open_pool(settings.postgres()) as pool, pool.connection() as connection:
        await write_candles(connection, batch)


async def refusals(client: Client, queries: dict[str, tuple[int, str]]) -> None:
    found = {}
    for query in queries:
        async with client.session.get(query) as response:
            body = await response.json()
            assert set(body) <= {"error", "message", "position", "faults"}, query
            found[query] = (response.status, body["error"])
    assert found == queries


SYMBOLS = [
    ("BTCUSDT", START_MS, {"close_1m": 60_000.0, "price_change_1h": 3.0, "quote_volume_1h": 9e8}),
    ("ETHUSDT", START_MS, {"close_1m": 3_000.0, "price_change_1h": 5.0, "quote_volume_1h": 4e8}),
    ("ADAUSDT", START_MS, {"close_1m": 0.5, "price_change_1h": -1.0}),
    ("XRPUSDT", START_MS, {"close_1m": 0.6}),
    # not heard of since long before the others
    ("OLDUSDT", START_MS - 3_600_000, {"close_1m": 1.0, "price_change_1h": 50.0}),
]


async def all_known(client: Client) -> None:
    await eventually(lambda: len(client.sidecar.parts.latest) == len(SYMBOLS))


async def test_a_query_gives_the_symbols_whose_latest_values_satisfy_it(settings):
    await publish_metrics(settings, SYMBOLS)
    await publish_sealed_minute(settings, [row for row in SYMBOLS if row[1] == START_MS])
    async with running_sidecar(settings) as client:
        await all_known(client)

        async def market_is_known() -> bool:
            _, body = await client.get("/api/screener", where="rank(price_change_1h) <= 1")
            return bool(body["symbols"])

        await eventually(market_is_known)
        status, body = await client.get("/api/screener", where="price_change_1h > 2", sort="volume_1h")
        assert status == 200
        assert body == {
            "symbols": [
                {
                    "symbol": symbol,
                    "timestamp": "2024-02-29T00:01:00.000Z",
                    "price": price,
                    "values": {"price_change_1h": change, "quote_volume_1h": volume},
                }
                for symbol, price, change, volume in (
                    ("BTCUSDT", 60_000.0, 3.0, 9e8),
                    ("ETHUSDT", 3_000.0, 5.0, 4e8),
                )
            ],
            "matched": 2,
            "evaluated": 4,
        }
        queries: dict[tuple[tuple[str, str], ...], list[str]] = {
            (("where", "price_change_1h > -5"),): ["ADAUSDT", "BTCUSDT", "ETHUSDT"],
            (("where", "price > 0"), ("sort", "price_change_1h")): [
                "ETHUSDT",
                "BTCUSDT",
                "ADAUSDT",
                "XRPUSDT",
            ],
            (("where", "price > 0"), ("sort", "price_change_1h"), ("order", "asc"), ("limit", "2")): [
                "ADAUSDT",
                "BTCUSDT",
            ],
            (("where", "rank(price_change_1h) <= 1"),): ["ETHUSDT"],
            (("where", "price_change_1h > 100"),): [],
        }
        for query, expected in queries.items():
            _, body = await client.get("/api/screener", **dict(query))
            assert [one["symbol"] for one in body["symbols"]] == expected, query
        _, body = await client.get("/api/screener", where="price > 0", limit="1")
        assert (len(body["symbols"]), body["matched"]) == (1, 4)


async def test_functions_over_all_symbols_are_of_the_last_sealed_minute_which_the_answer_names(settings):
    def minute(back: int, **changes: float) -> list[Row]:
        return [
            (f"{name}USDT", START_MS - back * MINUTE_MS, {"close_1m": 1.0, "price_change_1h": change})
            for name, change in changes.items()
        ]

    async with running_sidecar(settings) as client:

        async def best() -> tuple[object, list[str]]:
            _, body = await client.get("/api/screener", where="rank(price_change_1h) == 1")
            return body["market_minute"], [one["symbol"] for one in body["symbols"]]

        async def becomes(minute: str, symbols: list[str]) -> None:
            async def is_so() -> bool:
                return await best() == (minute, symbols)

            await eventually(is_so)

        await publish_metrics(settings, minute(0, ADA=1.0, BTC=2.0, ETH=3.0))
        await eventually(lambda: len(client.sidecar.parts.latest) == 3)
        assert await best() == (None, [])
        await publish_sealed_minute(settings, minute(2, ADA=9.0, BTC=8.0))
        await becomes("2024-02-28T23:58:00.000Z", ["ADAUSDT"])
        await publish_sealed_minute(settings, minute(1, ADA=1.0, BTC=8.0, OLD=50.0))
        # the best of that minute is not among the symbols of now
        await becomes("2024-02-28T23:59:00.000Z", [])
        await publish_sealed_minute(settings, minute(0, ADA=1.0, BTC=8.0))
        await becomes("2024-02-29T00:00:00.000Z", ["BTCUSDT"])
        _, body = await client.get("/api/screener", where="price > 0", sort="rank(price_change_1h)")
        assert body["market_minute"] == "2024-02-29T00:00:00.000Z"
        assert body["symbols"][-1] == {
            "symbol": "ETHUSDT",
            "timestamp": "2024-02-29T00:01:00.000Z",
            "price": 1.0,
            "values": {"close_1m": 1.0, "price_change_1h": 3.0, "rank(price_change_1h)": None},
        }
        _, body = await client.get("/api/screener", where="price > 0")
        assert "market_minute" not in body


async def test_a_faulty_query_is_400_with_the_position_of_its_fault(settings):
    async with running_sidecar(settings) as client:
        for where, position in (
            ("price_change_1h > 2 and rsi_99 > 1", 24),
            ("price >", 7),
            ("prev(rank(price)) > 1", 0),
        ):
            status, body = await client.get("/api/screener", where=where)
            assert (status, body["error"], body["position"]) == (400, "bad_expression", position), where
            assert body["message"].startswith("where: ")
        status, body = await client.get("/api/screener", where="price > 1", sort="prev(rank(price))")
        assert (status, body["message"][:15], body["position"]) == (400, "where or sort: ", 0)
        await refusals(
            client,
            {
                "/api/screener": (400, "missing_parameter"),
                "/api/screener?where=": (400, "bad_expression"),
                "/api/screener?where=price&sort=price": (400, "bad_expression"),
                "/api/screener?where=price%3E0&sort=price%3E0": (400, "bad_expression"),
                "/api/screener?where=price%3E0&order=up&sort=price": (400, "bad_parameter"),
                "/api/screener?where=price%3E0&order=asc": (400, "bad_parameter"),
                "/api/screener?where=price%3E0&limit=1001": (400, "bad_parameter"),
                "/api/screener?where=price%3E0&where=price%3E0": (400, "bad_parameter"),
                "/api/screener?where=" + "(" * 2001: (400, "bad_expression"),
                "/api/screener?where=__import__('os')": (400, "bad_expression"),
                "/api/screener?where=price%3E0&having=1": (400, "unknown_parameter"),
            },
        )


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
        await refusals(client, {"/api/symbols?symbol=BTCUSDT": (400, "unknown_parameter")})


def bars(batch: CandleBatch, start_of: Any, end_of: Any, newest_ms: int) -> list[list[Any]]:
    """What /api/klines owes for one symbol's minutes, bar by bar, straight from its description."""
    rows: dict[int, list[int]] = {}
    for row, time_ms in enumerate(batch.open_time_ms.tolist()):
        rows.setdefault(start_of(time_ms), []).append(row)
    found = []
    for start_ms, members in sorted(rows.items()):
        end_ms = end_of(start_ms)
        if len(members) * MINUTE_MS != min(end_ms, newest_ms + MINUTE_MS) - start_ms:
            continue
        found.append(
            [
                start_ms,
                batch.open[members[0]],
                max(batch.high[members]),
                min(batch.low[members]),
                batch.close[members[-1]],
                sum(batch.volume[members]),
                end_ms - 1,
                sum(batch.quote_volume[members]),
                sum(batch.trades[members]),
                sum(batch.taker_buy_volume[members]),
                sum(batch.taker_buy_quote_volume[members]),
            ]
        )
    return found


def month_start(time_ms: int) -> int:
    at = datetime.fromtimestamp(time_ms / 1000, UTC)
    return int(datetime(at.year, at.month, 1, tzinfo=UTC).timestamp()) * 1000


def month_end(start_ms: int) -> int:
    at = datetime.fromtimestamp(start_ms / 1000, UTC)
    return start_ms + calendar.monthrange(at.year, at.month)[1] * DAY_MS


LENGTHS = {
    "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360, "8h": 480,
    "12h": 720, "1d": 1440, "3d": 4320, "1w": 10_080,
}  # fmt: skip


async def test_candles_of_all_fifteen_intervals_are_made_from_the_stored_minutes(settings):
    """Nine days over the end of a month, with one minute missing and the last bars forming."""
    whole = candles(["BTCUSDT", "ETHUSDT"], 9 * 1440 + 7, START_MS - DAY_MS)
    missing_ms = START_MS + 5 * DAY_MS + 3_333 * 1000 * 60 % DAY_MS
    stored = whole.take(np.flatnonzero(whole.open_time_ms != missing_ms))
    await store(settings, stored)
    mine = stored.take(np.flatnonzero(stored.symbol_index == 1))
    newest_ms = int(mine.open_time_ms[-1])
    async with running_sidecar(settings) as client:
        for name in [*LENGTHS, "1M"]:
            if name == "1M":
                expected = bars(mine, month_start, month_end, newest_ms)
            else:
                length_ms = LENGTHS[name] * MINUTE_MS
                origin_ms = 4 * DAY_MS if name == "1w" else 0
                expected = bars(
                    mine,
                    lambda time_ms, n=length_ms, o=origin_ms: time_ms - (time_ms - o) % n,
                    lambda start_ms, n=length_ms: start_ms + n,
                    newest_ms,
                )
            status, found = await client.get("/api/klines", symbol="ETHUSDT", interval=name, limit="1500")
            assert status == 200
            # limit counts bars of time, not bars that are whole
            last_ms = max(bar[0] for bar in expected) if expected else 0
            expected = [bar for bar in expected if last_ms - bar[0] < 1500 * LENGTHS[name] * MINUTE_MS]
            assert [bar[0] for bar in found] == [bar[0] for bar in expected], name
            for bar, wanted in zip(found, expected, strict=True):
                assert all(isinstance(bar[at], str) for at in (1, 2, 3, 4, 5, 7, 9, 10, 11)), bar
                assert [float(text) for text in bar[:11]] == pytest.approx(wanted, rel=1e-12), name
                assert bar[11] == "0"
        assert expected == [], "no month is whole"


async def test_the_range_of_candles_can_be_chosen_in_both_ways(settings):
    await store(settings, candles(["BTCUSDT"], 600, START_MS))

    async def opens(**query: str) -> list[int]:
        _, found = await client.get("/api/klines", symbol="BTCUSDT", interval="1h", **query)
        return [(bar[0] - START_MS) // 3_600_000 for bar in found]

    async with running_sidecar(settings) as client:
        assert await opens() == list(range(10))
        assert await opens(limit="3") == [7, 8, 9]
        assert await opens(since="2024-02-29T03:00:00Z", limit="2") == [3, 4]
        assert await opens(since="2024-02-29T03:00:01Z", limit="2") == [4, 5]
        assert await opens(until="2024-02-29T03:00:00Z", limit="2") == [1, 2]
        assert await opens(until="2024-02-29T03:00:01Z", limit="2") == [2, 3]
        assert await opens(since="2024-02-29T03:00:00Z", until="2024-02-29T05:00:00Z") == [3, 4]
        assert await opens(startTime=str(START_MS + 7_200_000), endTime=str(START_MS + 14_400_000)) == [
            2,
            3,
            4,
        ]
        assert await opens(since="2030-01-01T00:00:00Z") == []
        assert await opens(since="9999-12-31T23:59:59Z") == []
        assert await opens(until="1970-01-01T00:00:00Z") == []
        assert await opens(startTime="1000000000000000") == []


async def test_the_earliest_candles_are_given_from_a_time_before_all_of_them(settings):
    """As the exchange does; a first bar of which the beginning is not stored is left out, and not counted."""
    await store(settings, candles(["BTCUSDT"], 600, START_MS + 20 * MINUTE_MS))
    async with running_sidecar(settings) as client:
        _, minutes = await client.get(
            "/api/klines", symbol="BTCUSDT", interval="1m", startTime="1", limit="5"
        )
        _, hours = await client.get("/api/klines", symbol="BTCUSDT", interval="1h", startTime="1", limit="5")
    assert [bar[0] for bar in minutes] == [START_MS + (20 + n) * MINUTE_MS for n in range(5)]
    assert [bar[0] for bar in hours] == [START_MS + n * 60 * MINUTE_MS for n in range(1, 6)]


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [
        # 1062.8609999999999 as a sum of floating-point numbers
        ([354.287, 354.287, 354.287, 0.0, 0.0], "1062.861"),
        ([0.1, 0.2, 0.7, 1062.861, 1e-8], "1063.86100001"),
    ],
)
async def test_volumes_of_longer_candles_are_sums_of_decimals(settings, volumes, expected):
    batch = candles(["BTCUSDT"], 5, START_MS, volume=np.array(volumes), quote_volume=np.array(volumes))
    await store(settings, batch)
    async with running_sidecar(settings) as client:
        _, ((*_, volume, _, quote_volume, _, _, _, _),) = await client.get(
            "/api/klines", symbol="BTCUSDT", interval="5m"
        )
    assert (volume, quote_volume) == (expected, expected)


async def test_taker_volumes_are_0_where_one_of_a_minute_is_unknown(settings):
    batch = candles(["BTCUSDT"], 10, START_MS)
    batch.taker_buy_volume[3] = np.nan
    await store(settings, batch)
    async with running_sidecar(settings) as client:
        _, found = await client.get("/api/klines", symbol="BTCUSDT", interval="5m")
    assert found[0][9] == "0"
    assert float(found[0][10]) == pytest.approx(sum(batch.taker_buy_quote_volume[:5]))
    assert float(found[1][9]) == pytest.approx(sum(batch.taker_buy_volume[5:]))


async def test_small_and_large_values_are_written_without_exponent(settings):
    tiny = candles(["PEPEUSDT"], 1, START_MS, open=np.array([1.25e-7]), volume=np.array([1.5e18]))
    await store(settings, tiny)
    async with running_sidecar(settings) as client:
        _, found = await client.get("/api/klines", symbol="PEPEUSDT", interval="1m")
    assert (found[0][1], found[0][5]) == ("0.000000125", "1500000000000000000")


async def test_other_requests_for_candles_are_refused(settings):
    base = "/api/klines?symbol=BTCUSDT&interval="
    async with running_sidecar(settings) as client:
        await refusals(
            client,
            {
                "/api/klines?interval=1m": (400, "missing_parameter"),
                "/api/klines?symbol=BTCUSDT": (400, "missing_parameter"),
                base + "2m": (400, "bad_parameter"),
                base + "1D": (400, "bad_parameter"),
                base + "1m&limit=0": (400, "bad_parameter"),
                base + "1m&limit=1501": (400, "bad_parameter"),
                base + "1m&startTime=1&since=2024-01-01T00:00:00Z": (400, "bad_parameter"),
                base + "1m&startTime=5&endTime=3": (400, "bad_parameter"),
                base + "1m&startTime=-1": (400, "bad_parameter"),
                base + "1m&from=1": (400, "unknown_parameter"),
                "/api/klines?symbol=a%27--&interval=1m": (400, "bad_parameter"),
                base + "1m": (404, "unknown_symbol"),
            },
        )


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
        await refusals(
            client,
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
