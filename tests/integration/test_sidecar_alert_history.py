"""GET /api/alerts against a real database: filters, paging, exact refusals."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from app.settings import Settings
from app.times import rfc3339
from tests.support.alerts import FIRST_MINUTE_MS, make_alert, store
from tests.support.sidecar import prepare, running_sidecar

SYMBOLS = ("BTCUSDT", "ETHUSDT", "1000PEPEUSDT")
ALERTS = [make_alert(n, symbol=SYMBOLS[n % 2 if n < 40 else 2]) for n in range(50)]
NEWEST_FIRST = [alert["id"] for alert in reversed(ALERTS)]


def minute(number: int) -> str:
    return rfc3339(FIRST_MINUTE_MS + number * 60_000)


@pytest.fixture
async def stored(settings: Settings) -> Settings:
    await prepare(settings)
    await store(settings, range(100, 150), ALERTS)
    return settings


async def test_history_is_given_newest_first_with_every_field(stored):
    async with running_sidecar(stored) as client:
        status, body = await client.get("/api/alerts", limit="2")
    assert status == 200
    assert body["alerts"] == [{**ALERTS[49], "seq": 149}, {**ALERTS[48], "seq": 148}]


async def test_following_the_cursor_gives_every_alert_once(stored):
    async with running_sidecar(stored) as client:
        for limit in (1, 7, 50, 1000):
            found, parameters = [], {"limit": str(limit)}
            while True:
                _, body = await client.get("/api/alerts", **parameters)
                assert len(body["alerts"]) <= limit
                found += [alert["id"] for alert in body["alerts"]]
                if body["next_cursor"] is None:
                    break
                parameters["cursor"] = body["next_cursor"]
            assert found == NEWEST_FIRST, limit


async def test_alerts_that_arrive_while_paging_do_not_shift_the_pages(stored):
    async with running_sidecar(stored) as client:
        _, first = await client.get("/api/alerts", limit="10")
        await store(stored, [150], [make_alert(60)])
        _, second = await client.get("/api/alerts", limit="10", cursor=first["next_cursor"])
    assert [alert["id"] for alert in first["alerts"] + second["alerts"]] == NEWEST_FIRST[:20]


FILTERS = [
    ("symbol=ETHUSDT", lambda a: a["symbol"] == "ETHUSDT"),
    ("symbol=ETHUSDT,1000PEPEUSDT", lambda a: a["symbol"] != "BTCUSDT"),
    ("symbol=ETHUSDT&symbol=1000PEPEUSDT", lambda a: a["symbol"] != "BTCUSDT"),
    ("symbol=NOSUCHUSDT", lambda a: False),
    ("rule_type=futures_top_hunter", lambda a: a["rule_type"] == "futures_top_hunter"),
    ("severity=medium,info", lambda a: a["severity"] == "medium"),
    (
        "severity=critical&symbol=BTCUSDT",
        lambda a: (a["severity"], a["symbol"]) == ("critical", "BTCUSDT"),
    ),
    (f"since={minute(45)}", lambda a: a["timestamp"] >= minute(45)),
    (f"until={minute(5)}", lambda a: a["timestamp"] < minute(5)),
    (f"since={minute(5)}&until={minute(9)}", lambda a: minute(5) <= a["timestamp"] < minute(9)),
    (f"since={minute(5)}&until={minute(5)}", lambda a: False),
    (f"since={quote(minute(5).replace('Z', '+00:00'))}", lambda a: a["timestamp"] >= minute(5)),
]


async def test_filters_give_exactly_the_alerts_they_name(stored):
    async with running_sidecar(stored) as client:
        for query, wanted in FILTERS:
            async with client.session.get(f"/api/alerts?limit=1000&format=array&{query}") as response:
                found = [alert["id"] for alert in await response.json()]
            assert found == [alert["id"] for alert in reversed(ALERTS) if wanted(alert)], query


async def test_the_bare_array_of_the_earlier_system_is_given_on_demand(stored):
    async with running_sidecar(stored) as client:
        _, bare = await client.get("/api/alerts", limit="3", format="array")
        _, whole = await client.get("/api/alerts", limit="3", format="object")
    assert bare == whole["alerts"]


BAD_QUERIES = [
    ("limit=0", "limit"),
    ("limit=1001", "limit"),
    ("limit=ten", "limit"),
    ("limit=1e2", "limit"),
    ("limit=", "limit"),
    ("limit=٣", "limit"),
    ("limit=5&limit=6", "limit"),
    ("since=yesterday", "since"),
    ("since=2024-02-27", "since"),
    ("since=2024-02-27T00:00:00", "since"),
    ("since=2024-02-30T00:00:00Z", "since"),
    ("since=2024-02-27T00:00:00+00:00", "since"),
    ("since=0001-01-01T00:00:00%2B23:59", "since"),
    ("since=1709000040", "since"),
    ("until=2024-02-27T25:00:00Z", "until"),
    (f"since={minute(9)}&until={minute(8)}", "since"),
    ("severity=urgent", "severity"),
    ("severity=critical,,medium", "severity"),
    ("symbol=btc/usdt", "symbol"),
    ("symbol=BTC%00USDT", "symbol"),
    ("symbol=%27%3BDROP%20TABLE%20alert_history--", "symbol"),
    ("symbol=", "symbol"),
    ("symbol=" + ",".join(f"S{n}" for n in range(201)), "symbol"),
    ("symbol=" + "A" * 33, "symbol"),
    ("rule_type=a%20b", "rule_type"),
    ("format=csv", "format"),
    ("cursor=", "cursor"),
    ("cursor=x", "cursor"),
    ("cursor=%C3%A9%C3%A9", "cursor"),
    ("cursor=WyIyMDI0LTAyLTI3VDAwOjAwOjAwIiwgMV0", "cursor"),
]


async def test_every_bad_parameter_is_400_and_named(stored):
    async with running_sidecar(stored) as client:
        for query, name in BAD_QUERIES:
            async with client.session.get(f"/api/alerts?{query}") as response:
                assert response.status == 400, query
                body = await response.json()
            assert set(body) == {"error", "message"}, query
            assert (body["error"], body["message"].split(":")[0]) == ("bad_parameter", name), query


async def test_an_unknown_parameter_is_400_and_the_known_ones_are_named(stored):
    async with running_sidecar(stored) as client:
        status, body = await client.get("/api/alerts", symbols="BTCUSDT")
    assert (status, body["error"]) == (400, "unknown_parameter")
    assert "unknown parameter 'symbols'; did you mean symbol?" in body["message"]
    assert "rule_type" in body["message"]


async def test_a_database_error_is_503_without_internals(settings):
    # The tables were never made.
    async with running_sidecar(settings, wait_ready=False) as client:
        status, body = await client.get("/api/alerts")
    assert (status, body) == (
        503,
        {"error": "unavailable", "message": "the alert history cannot be reached now; retry"},
    )
