"""Queries of the screener over a running sidecar."""

from __future__ import annotations

import pytest

from app.settings import Settings
from tests.support.eventually import eventually
from tests.support.five_symbols import START_MS, SYMBOLS, all_known
from tests.support.metric_batches import Row, publish_metrics, publish_sealed_minute
from tests.support.sidecar import prepare, running_sidecar

MINUTE_MS = 60_000


@pytest.fixture(autouse=True)
async def _prepared(settings: Settings) -> None:
    await prepare(settings)


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
        await client.assert_refused(
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
