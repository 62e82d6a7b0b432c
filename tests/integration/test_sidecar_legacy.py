"""The earlier gateway's contract at the legacy port: shapes, leniency, access, limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from app.database.connection import open_pool
from app.market.fields import COLUMN_POSITION, EVERYWHERE
from app.settings import Settings
from app.sinks.copy import write_candles
from app.times import rfc3339
from app.wire.tickers import ExchangeDay, Ticker, TickerStore
from tests.support.alerts import FIRST_MINUTE_MS, make_alert, publish, store
from tests.support.database import candles
from tests.support.eventually import eventually
from tests.support.legacy import running_gateway
from tests.support.metric_batches import publish_metrics
from tests.support.sidecar import prepare, read_alerts, running_sidecar
from tests.support.tokens import SECRET, bearer

START_MS = 1_709_164_800_000
"""2024-02-29 00:00 UTC"""
ALERT_FIELDS = {"id", "time", "timestamp", "symbol", "rule_type", "description", "price", "metadata"}
ALERTS = [make_alert(n, symbol="BTCUSDT" if n % 2 else "ETHUSDT") for n in range(510)]
NEWEST_FIRST = [alert["id"] for alert in reversed(ALERTS)]


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await prepare(settings)
    return Settings.model_validate({**settings.model_dump(), "jwt_secret": SECRET})


async def test_the_port_is_off_unless_it_is_set(ready):
    async with running_sidecar(ready) as client:
        assert client.sidecar.legacy_port is None


async def test_alerts_are_a_bare_array_with_a_clamped_limit_and_without_faulty_parameters(ready):
    await store(ready, range(len(ALERTS)), ALERTS)
    async with running_gateway(ready) as client:

        async def ids(query: str) -> list[str]:
            status, body = await client.get(f"/api/alerts{query}")
            assert status == 200, query
            assert all(set(alert) == ALERT_FIELDS for alert in body), query
            return [alert["id"] for alert in body]

        expected = {
            "": NEWEST_FIRST[:100],
            "?limit=7": NEWEST_FIRST[:7],
            "?limit=0": NEWEST_FIRST[:1],
            "?limit=-5": NEWEST_FIRST[:1],
            "?limit=501": NEWEST_FIRST[:500],
            "?limit=999999999999": NEWEST_FIRST[:500],
            "?limit=many&unknown=1&cursor=x&until=2000-01-01T00:00:00Z": NEWEST_FIRST[:100],
            "?since=yesterday&limit=2": NEWEST_FIRST[:2],
            f"?since={rfc3339(FIRST_MINUTE_MS + 507 * 60_000)}": NEWEST_FIRST[:3],
            "?symbol=%20BTCUSDT%20&limit=2": [ALERTS[509]["id"], ALERTS[507]["id"]],
            "?symbol=NOSUCHUSDT": [],
            "?symbol=a%00b": [],
            "?rule_type=%27%3B--": [],
            f"?rule_type={ALERTS[509]['rule_type']}&limit=1": NEWEST_FIRST[:1],
        }
        assert {query: await ids(query) for query in expected} == expected
        _, [newest] = await client.get("/api/alerts?limit=1")
        stored = ALERTS[-1]
        assert newest["time"] == newest["timestamp"] == stored["timestamp"]
        assert newest["price"] == stored["price"]
        plain = {k: v for k, v in stored["metadata"].items() if not isinstance(v, dict | list)}
        assert newest["metadata"] == plain


def whole(timeframe: str) -> dict[str, float]:
    """A value for every metric of a timeframe: its position among the columns."""
    columns = [field.column(timeframe) for field in EVERYWHERE]
    return {column: float(COLUMN_POSITION[column]) for column in columns}


async def test_metrics_are_bare_and_hold_what_is_whole(ready):
    known = {**whole("5m"), **whole("1h")}
    del known["macd_1h"], known["fib_pivot_1h"]
    known |= {"open_1d": 1.0, "close_1d": 2.0, "close_4h": 1.0}
    await publish_metrics(ready, [("BTCUSDT", START_MS, known), ("ETHUSDT", START_MS, {"close_1m": 1.0})])
    async with running_gateway(ready) as client:
        await eventually(lambda: len(client.sidecar.parts.latest) == 2)
        async with client.session.get("/api/metrics", allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (301, "/api/metrics/")
        status, [one] = await client.get("/api/metrics")
        assert (status, set(one), one["symbol"]) == (200, {"symbol", "timeframes"}, "BTCUSDT")
        assert set(one["timeframes"]) == {"5m", "1h"}
        assert one["timeframes"]["5m"] == {
            "time": "2024-02-29T00:01:00.000Z",
            "volume": known["quote_volume_5m"],
            **{
                name: known[f"{name}_5m"]
                for name in (
                    "open", "high", "low", "close", "price_change", "volume_ratio", "vcp", "rsi_14", "macd",
                    "macd_signal", "bb_upper", "bb_middle", "bb_lower",
                )
            },
            "fibonacci": {
                name: known[f"fib_{name}_5m"] for name in ("r3", "r2", "r1", "pivot", "s1", "s2", "s3")
            },
        }  # fmt: skip
        assert not {"macd", "fibonacci"} & set(one["timeframes"]["1h"])

        status, found = await client.get("/api/metrics/btcusdt?unknown=1")
        assert (status, set(found)) == (200, {"symbol", "timestamp", "timeframes"})
        assert (found["symbol"], found["timestamp"]) == ("BTCUSDT", "2024-02-29T00:01:00.000Z")
        assert set(found["timeframes"]) == {"5m", "1h"}
        assert not {"time", "price_change", "volume_ratio"} & set(found["timeframes"]["5m"])
        for unknown in ("ETHUSDT", "NOSUCHUSDT"):
            answer = (404, {"error": "not_found", "message": "no metrics found for symbol"})
            assert await client.get(f"/api/metrics/{unknown}") == answer


DAY = ExchangeDay(
    "-94.99999800", "-95.960", "0.29628482", "4.00000200", "200.00000000", "99.00000000", "100.00000000",
    "0.10000000", "8913.30000000", "15.30000000", 1_499_783_499_040, 1_499_869_899_040, 76,
)  # fmt: skip


async def test_tickers_are_the_exchanges_own_fourteen_fields_and_unknown_symbols_are_left_out(ready):
    redis = Redis.from_url(ready.server_urls().redis)
    plain = Ticker("ETHUSDT", 1.0, 2.0, 3.0, 0.5, 10.0, 20.0, START_MS)
    bitcoin, cardano = (replace(plain, symbol=symbol, day=DAY) for symbol in ("BTCUSDT", "ADAUSDT"))
    await TickerStore(redis, ready.names()).write([plain, bitcoin, cardano])
    await redis.aclose()
    async with running_gateway(ready) as client:
        status, body = await client.get("/api/tickers", symbols="btcusdt, NOSUCHUSDT,,ETHUSDT")
        assert status == 200
        assert body == [
            {
                "symbol": "BTCUSDT",
                "priceChange": "-94.99999800",
                "priceChangePercent": "-95.960",
                "weightedAvgPrice": "0.29628482",
                "lastPrice": "4.00000200",
                "lastQty": "200.00000000",
                "openPrice": "99.00000000",
                "highPrice": "100.00000000",
                "lowPrice": "0.10000000",
                "volume": "8913.30000000",
                "quoteVolume": "15.30000000",
                "openTime": 1_499_783_499_040,
                "closeTime": 1_499_869_899_040,
                "count": 76,
            }
        ]
        _, all_of_them = await client.get("/api/tickers")
        assert [one["symbol"] for one in all_of_them] == ["ADAUSDT", "BTCUSDT"]
        assert await client.get("/api/tickers", symbols="NOSUCHUSDT") == (200, [])


async def test_klines_are_the_exchanges_arrays_of_twelve_with_a_clamped_limit(ready):
    async with await open_pool(ready.postgres()) as pool, pool.connection() as connection:
        await write_candles(connection, candles(["BTCUSDT"], 30, START_MS))
    async with running_gateway(ready) as client, running_sidecar(ready) as main:

        async def opens(query: str) -> list[int]:
            status, body = await client.get(f"/api/klines?{query}")
            assert status == 200
            assert all(len(bar) == 12 for bar in body)
            return [bar[0] for bar in body]

        assert await opens("symbol=btcusdt&interval=1m&limit=2&startTime=5") == [
            START_MS + minute * 60_000 for minute in (28, 29)
        ]
        assert len(await opens("symbol=BTCUSDT&interval=5m&limit=99999")) == 6
        assert len(await opens("symbol=BTCUSDT&interval=1m&limit=none")) == 30
        query = "/api/klines?symbol=BTCUSDT&interval=5m"
        assert await client.get(query) == await main.get(query)
        for query, code, message in (
            ("interval=1m", "invalid_request", "symbol is required"),
            ("symbol=BTCUSDT", "invalid_request", "invalid interval"),
            ("symbol=BTCUSDT&interval=2m", "invalid_request", "invalid interval"),
        ):
            assert await client.get(f"/api/klines?{query}") == (400, {"error": code, "message": message})
        for symbol in ("NOSUCHUSDT", "a%27--"):
            status, body = await client.get(f"/api/klines?symbol={symbol}&interval=1m")
            assert (status, body) == (400, {"code": -1121, "msg": "Invalid symbol."})


async def test_settings_are_replaced_as_a_whole_and_the_answer_says_success(ready):
    ann = bearer("ann")
    nothing = {"selected_alerts": [], "webhook_url": None, "notification_enabled": True}
    given = {
        "selected_alerts": ["big_bull_60m", "pioneer_bull"],
        "webhook_url": "https://discord.com/webhooks/test",
        "notification_enabled": True,
    }
    async with running_gateway(ready) as client:
        assert await client.send("GET", "/api/settings", headers=ann) == (200, nothing)
        saved = await client.send("POST", "/api/settings", given | {"unknown": 1}, ann)
        assert saved == (200, {"success": True, **given})
        assert await client.send("GET", "/api/settings", headers=ann) == (200, given)
        emptied = {"selected_alerts": [], "webhook_url": None, "notification_enabled": False}
        assert await client.send("POST", "/api/settings", b"{}", ann) == (200, {"success": True, **emptied})
        assert await client.send("GET", "/api/settings", headers=ann) == (200, emptied)
        assert await client.send("GET", "/api/settings", headers=bearer("bob")) == (200, nothing)


async def test_settings_need_a_valid_token_and_usable_values(ready):
    ann = bearer("ann")
    refused: list[tuple[object, dict[str, str], int, str]] = [
        ({}, {}, 401, "unauthorized"),
        ({}, {"Authorization": "Bearer test-token"}, 401, "unauthorized"),
        (b"not json", ann, 400, "bad_body"),
        (b"[]", ann, 400, "bad_body"),
        ({"selected_alerts": "all"}, ann, 400, "invalid_json"),
        ({"selected_alerts": ["x"] * 201}, ann, 400, "invalid_json"),
        ({"notification_enabled": "yes"}, ann, 400, "invalid_json"),
        ({"webhook_url": "http://127.0.0.1/"}, ann, 400, "invalid_json"),
        ({"webhook_url": 5}, ann, 400, "invalid_json"),
    ]
    async with running_gateway(ready) as client:
        for body, headers, status, code in refused:
            found, answer = await client.send("POST", "/api/settings", body, headers)
            assert (found, answer["error"], set(answer)) == (status, code, {"error", "message"}), body
        assert (await client.send("PUT", "/api/settings", {}, ann))[0] == 405
        assert (await client.send("GET", "/nothing"))[1] == {"error": "not_found", "message": "not found"}


async def test_health_has_the_earlier_words(ready):
    async with running_gateway(ready) as client:
        await eventually(lambda: client.sidecar.parts.health.ready)

        async def all_up() -> bool:
            _, body = await client.get("/health/ready")
            return bool(body["checks"] == {"nats": "ok", "timescaledb": "ok", "redis": "ok"})

        await eventually(all_up)
        for path in ("/health", "/api/health"):
            status, body = await client.get(path)
            version = body.pop("version")
            assert (status, body) == (200, {"status": "ok", "db": True, "nats": True})
            assert version
        status, body = await client.get("/health/live")
        assert (status, body["status"], set(body)) == (200, "alive", {"status", "timestamp"})
        status, body = await client.get("/health/ready")
        assert (status, body["status"]) == (200, "healthy")
        assert set(body) == {"status", "timestamp", "checks"}


async def test_each_new_alert_is_one_message_and_text_of_the_client_is_tolerated(ready):
    async with running_gateway(ready) as client:
        before = client.receivers
        async with client.session.ws_connect("/ws/alerts?anything=1") as socket:
            await socket.send_str('{"type":"keepalive"}')
            await eventually(lambda: client.receivers > before)
            await publish(ready, [make_alert(1), make_alert(2)])
            found = await read_alerts(socket, lambda alerts: len(alerts) == 2)
    assert [alert["id"] for alert in found] == [make_alert(1)["id"], make_alert(2)["id"]]
    assert set(found[0]) == ALERT_FIELDS


async def test_both_ports_share_one_limit_of_requests(ready):
    async with (
        running_gateway(ready, rate_limited=True, rate_limit_per_minute=2) as client,
        aiohttp.ClientSession(f"http://127.0.0.1:{client.sidecar.port}") as main,
    ):
        refusal: dict[str, Any] = {}

        async def third_is_refused() -> bool:
            first, _ = await client.get("/api/alerts")
            async with main.get("/api/alerts") as response:
                second = response.status
            third, body = await client.get("/api/alerts")
            refusal.update(body if third == 429 else {})
            return (first, second, third) == (200, 200, 429)

        # a minute may end between two of them; the next begins with the whole limit
        await eventually(third_is_refused, within_s=100)
        assert refusal["error"] == "rate_limit_exceeded"
        assert set(refusal) == {"error", "message"}


async def test_pages_of_listed_origins_alone_may_ask_and_read(ready):
    ours = {"Origin": "https://example.com"}
    async with running_gateway(ready, allowed_origins=("https://example.com",)) as client:
        for method, status in (("OPTIONS", 204), ("GET", 200)):
            async with client.session.request(method, "/api/alerts", headers=ours) as response:
                assert response.status == status
                assert response.headers["Access-Control-Allow-Origin"] == "https://example.com"
                assert response.headers["Access-Control-Allow-Credentials"] == "true"
        theirs = {"Origin": "https://other.example"}
        async with client.session.get("/api/alerts", headers=theirs) as response:
            assert "Access-Control-Allow-Origin" not in response.headers
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await client.session.ws_connect("/ws/alerts", headers=theirs)
