"""GET /api/alert-export: the alerts of a filter as CSV and JSON, whole, in order, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io

import pytest

from app.settings import Settings
from tests.support.alerts import make_alert, store
from tests.support.sidecar import Client, prepare, running_sidecar

SYMBOLS = ("BTCUSDT", "ETHUSDT", "1000PEPEUSDT")
HOSTILE = '=HYPERLINK("http://x"),"quoted"\nand a second line'
ALERTS = [
    make_alert(n, symbol=SYMBOLS[n % 3]) | {"description": HOSTILE if n % 2 else "plain"} for n in range(2500)
]


@pytest.fixture
async def stored(settings: Settings) -> Settings:
    await prepare(settings)
    await store(settings, range(100, 100 + len(ALERTS)), ALERTS)
    return settings


async def rows_of(client: Client, query: str) -> list[dict[str, str]]:
    async with client.session.get(f"/api/alert-export?{query}") as response:
        assert response.status == 200
        assert response.content_type == "text/csv"
        assert response.headers["Content-Disposition"] == 'attachment; filename="alerts.csv"'
        return list(csv.DictReader(io.StringIO((await response.read()).decode(), newline="")))


async def test_every_alert_of_the_filter_is_in_the_file_once_newest_first(stored):
    newest_first = [alert["id"] for alert in reversed(ALERTS)]
    async with running_sidecar(stored) as client:
        for limit, expected in (
            ("", newest_first),
            ("limit=1001", newest_first[:1001]),
            ("limit=1", newest_first[:1]),
        ):
            rows = await rows_of(client, limit)
            assert [row["id"] for row in rows] == expected
            _, found = await client.get("/api/alert-export?format=json&" + limit)
            assert [alert["id"] for alert in found] == expected
        _, one = await client.get("/api/alert-export?format=json&symbol=ETHUSDT")
        _, page = await client.get("/api/alerts?symbol=ETHUSDT&limit=1000")
        assert one == page["alerts"]
        assert (await client.get("/api/alert-export?format=json&symbol=NONEUSDT"))[1] == []
        assert await rows_of(client, "symbol=NONEUSDT") == []


async def test_no_text_of_a_row_is_a_formula_and_all_of_it_is_there(stored):
    async with running_sidecar(stored) as client:
        rows = await rows_of(client, "")
    assert {row["description"] for row in rows} == {"plain", f"'{HOSTILE}"}
    by_id = {alert["id"]: alert for alert in ALERTS}
    for row in rows:
        alert = by_id[row["id"]]
        assert (row["symbol"], row["timestamp"]) == (alert["symbol"], alert["timestamp"])
        assert float(row["price"]) == alert["price"]


async def test_other_requests_for_a_file_are_refused(stored, settings):
    async with running_sidecar(stored) as client:
        for query in ("format=xml", "limit=0", "limit=100001", "cursor=x", "since=now", "symbol=a%20b"):
            assert (await client.get(f"/api/alert-export?{query}"))[0] == 400, query


async def test_without_tables_there_is_no_file(settings):
    async with running_sidecar(settings, wait_ready=False) as client:
        assert (await client.get("/api/alert-export"))[0] == 503
