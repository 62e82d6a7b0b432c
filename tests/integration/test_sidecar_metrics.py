"""GET /api/metrics from frames on a real broker."""

from __future__ import annotations

import pytest

from app.settings import Settings
from app.wire.kafka import kafka_producer
from app.wire.topics import Topics
from tests.support.eventually import eventually
from tests.support.metric_batches import publish_metrics
from tests.support.sidecar import Client, prepare, running_sidecar

MINUTE_MS = 1_709_000_040_000


@pytest.fixture(autouse=True)
async def _prepared(settings: Settings) -> None:
    await prepare(settings)


async def known(client: Client, symbol: str, **parameters: str) -> dict:
    async def answer() -> dict | None:
        status, body = await client.get(f"/api/metrics/{symbol}", **parameters)
        return body if status == 200 else None

    return await eventually(answer)


async def test_a_symbols_latest_values_are_laid_out_by_timeframe(settings):
    values = {
        "open_5m": 1.0,
        "high_5m": 4.0,
        "low_5m": 0.5,
        "close_5m": 2.0,
        "base_volume_5m": 10.0,
        "quote_volume_5m": 15.0,
        "trades_5m": 7.0,
        "price_change_5m": 1.25,
        "rsi_14_1h": 55.5,
        "fib_pivot_5m": 2.5,
        "fib_s3_5m": 0.25,
        "vwap_day": 1.75,
        "high_10m": 4.5,
        "ichimoku_span_a_15m": 3.5,
        "bubble_size_15m": 2.0,
        "surge_ratio_5m": 2.75,
    }
    async with running_sidecar(settings) as client:
        await publish_metrics(settings, [("BTCUSDT", MINUTE_MS, values)])
        body = await known(client, "BTCUSDT")
    assert (body["symbol"], body["exchange"], body["closed"]) == ("BTCUSDT", "binance", True)
    assert (body["timestamp"], body["open_time"]) == ("2024-02-27T02:15:00.000Z", "2024-02-27T02:14:00.000Z")
    assert (body["vwap_day"], body["vwap_week"], body["high_10m"], body["low_10m"]) == (1.75, None, 4.5, None)
    assert list(body["timeframes"]) == ["1m", "5m", "15m", "1h", "4h", "8h", "1d"]
    five = body["timeframes"]["5m"]
    plain = {name: value for name, value in five.items() if not isinstance(value, dict) and value is not None}
    assert plain == {
        "open": 1.0,
        "high": 4.0,
        "low": 0.5,
        "close": 2.0,
        "volume": 10.0,
        "quote_volume": 15.0,
        "trades": 7.0,
        "price_change": 1.25,
    }
    assert five["fibonacci"] == {
        "pivot": 2.5, "r1": None, "r2": None, "r3": None, "s1": None, "s2": None, "s3": 0.25,
    }  # fmt: skip
    assert five["volume_surge"] == {"ratio": 2.75, "side": None}
    assert five["volume_bubble"] == {"z": None, "size": None, "side": None}
    fifteen = body["timeframes"]["15m"]
    assert fifteen["ichimoku"] == {"conversion": None, "base": None, "span_a": 3.5, "span_b": None}
    assert fifteen["volume_bubble"]["size"] == 2.0
    assert body["timeframes"]["1h"]["rsi_14"] == 55.5
    assert {"ichimoku", "volume_bubble", "volume_surge"}.isdisjoint(body["timeframes"]["1h"])


async def test_a_newer_row_replaces_the_older_and_never_the_other_way_round(settings):
    rows = [
        ("BTCUSDT", MINUTE_MS, {"close_1m": 1.0}),
        ("BTCUSDT", MINUTE_MS + 60_000, {"close_1m": 2.0}),
        ("BTCUSDT", MINUTE_MS + 60_000, {"close_1m": 3.0}),
        ("BTCUSDT", MINUTE_MS, {"close_1m": 4.0}),
        ("ETHUSDT", MINUTE_MS, {"close_1m": 5.0}),
    ]
    async with running_sidecar(settings) as client:
        await publish_metrics(settings, rows)
        await known(client, "ETHUSDT")

        async def closes() -> bool:
            _, body = await client.get("/api/metrics")
            found = {one["symbol"]: one["timeframes"]["1m"]["close"] for one in body["metrics"]}
            return found == {"BTCUSDT": 3.0, "ETHUSDT": 5.0}

        await eventually(closes)


async def test_what_was_sent_before_the_sidecar_started_is_known(settings):
    await publish_metrics(settings, [(f"S{n}USDT", MINUTE_MS, {"close_1m": float(n)}) for n in range(20)])
    async with running_sidecar(settings) as client:
        status, body = await client.get("/api/metrics")
    assert status == 200
    assert {one["symbol"]: one["timeframes"]["1m"]["close"] for one in body["metrics"]} == {
        f"S{n}USDT": float(n) for n in range(20)
    }


async def test_timeframes_fields_and_symbols_can_be_chosen(settings):
    rows = [(f"{name}USDT", MINUTE_MS, {"close_5m": 1.0, "fib_r1_1h": 2.0}) for name in ("A", "B", "C")]
    await publish_metrics(settings, rows)
    async with running_sidecar(settings) as client:
        _, body = await client.get(
            "/api/metrics", symbol="CUSDT,AUSDT", timeframe="5m,1h", field="close,fibonacci"
        )
        _, one = await client.get("/api/metrics/BUSDT", timeframe="5m", field="close")
    assert [entry["symbol"] for entry in body["metrics"]] == ["CUSDT", "AUSDT"]
    assert {name: set(fields) for name, fields in body["metrics"][0]["timeframes"].items()} == {
        "5m": {"close", "fibonacci"},
        "1h": {"close", "fibonacci"},
    }
    assert one["timeframes"] == {"5m": {"close": 1.0}}


async def test_an_unknown_symbol_is_404_whatever_its_characters(settings):
    async with running_sidecar(settings) as client:
        for symbol in ("NOSUCH", "btcusdt", "BTC%20USDT", "%00", "..%2f..%2fetc", "😀", "A" * 500):
            async with client.session.get(f"/api/metrics/{symbol}") as response:
                assert response.status == 404, symbol
                assert set(await response.json()) == {"error", "message"}, symbol


async def test_other_mistakes_are_answered_exactly(settings):
    expected = {
        "/api/metrics?timeframe=2m": (400, "bad_parameter"),
        "/api/metrics?field=nothing": (400, "bad_parameter"),
        "/api/metrics?symbol=a%20b": (400, "bad_parameter"),
        "/api/metrics?symbol=NOSUCH": (404, "unknown_symbol"),
        "/api/metrics?limit=5": (400, "unknown_parameter"),
        "/api/metrics/NOSUCH?symbol=BTCUSDT": (400, "unknown_parameter"),
        "/api/metrics/": (404, "not_found"),
        "/nothing": (404, "not_found"),
    }
    found = {}
    async with running_sidecar(settings) as client:
        for path in expected:
            async with client.session.get(path) as response:
                found[path] = (response.status, (await response.json())["error"])
    assert found == expected


async def test_an_unusable_frame_is_counted_and_skipped(settings):
    async with running_sidecar(settings) as client:
        async with kafka_producer(settings.kafka()) as producer:
            for value in (b"", b"no frame", b"screener-barrier:broken"):
                for partition in range(settings.partitions):
                    await producer.send_and_wait(
                        Topics.of(settings.names()).metrics, value, partition=partition
                    )
        await publish_metrics(settings, [("BTCUSDT", MINUTE_MS, {"close_1m": 1.0})])
        await known(client, "BTCUSDT")
        await eventually(
            lambda: (
                client.sidecar.parts.registry.get_sample_value(
                    "screener_dead_letters_total", {"stage": "sidecar", "reason": "frame_unreadable"}
                )
                == 3.0 * settings.partitions
            )
        )


async def test_other_methods_are_405_and_requests_carry_an_id(settings):
    async with running_sidecar(settings) as client:
        async with client.session.post("/api/metrics", json={}) as response:
            assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD")
            assert (await response.json())["error"] == "method_not_allowed"
        async with client.session.get("/api/metrics", headers={"X-Request-ID": "abcdefgh-1"}) as response:
            assert response.headers["X-Request-ID"] == "abcdefgh-1"
        async with client.session.get("/api/metrics", headers={"X-Request-ID": "a b"}) as response:
            assert len(response.headers["X-Request-ID"]) == 32


async def test_pages_of_listed_origins_may_read_answers_and_no_others(settings):
    settings = settings.model_copy(update={"allowed_origins": ("https://good.example",)})
    async with running_sidecar(settings) as client:
        for origin, allowed in (("https://good.example", True), ("https://good.example.evil.test", False)):
            async with client.session.get("/api/metrics", headers={"Origin": origin}) as response:
                assert response.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)


async def test_the_page_is_served_with_a_policy_that_allows_only_its_own_script(settings):
    async with running_sidecar(settings) as client, client.session.get("/") as response:
        assert (response.status, response.content_type) == (200, "text/html")
        policy = response.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "script-src 'self'; style-src 'self'; connect-src 'self'" in policy
    assert "default-src 'none'" in policy
