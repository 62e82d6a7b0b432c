"""The view Alerts, with alerts made up for it: a storm as one row, and the whole history as a file."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from playwright.async_api import Page, Route, expect

from app.clock import SystemClock
from app.times import rfc3339
from tests.page.browsing import MANY, Served, open_view, rows
from tests.support.alerts import make_alert, store

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def exported(page: Page, kind: str, directory: Path) -> Any:
    """The rows of a file that the view gives: of CSV with its texts, of JSON with its values."""
    async with page.expect_download() as download:
        await page.get_by_role("button", name=kind, exact=True).click()
    await (await download.value).save_as(directory / kind)
    with (directory / kind).open(newline="") as file:
        return list(csv.DictReader(file)) if kind == "CSV" else orjson.loads(file.read())


def symbols_of(alerts: Iterable[dict[str, Any]]) -> set[str]:
    return {alert["symbol"] for alert in alerts}


async def test_all_alerts_that_the_filters_let_through_are_exported(
    page: Page, served: Served, tmp_path: Path
) -> None:
    now_ms = SystemClock().now_ms()
    found = [
        make_alert(n, MANY[n % 3], "futures_top_hunter" if n % 2 else "futures_pioneer_bull", "=1+1, quoted")
        | {"timestamp": rfc3339(now_ms - n * 60_000)}
        for n in range(600)
    ]
    await store(served.settings, range(len(found)), found)
    await open_view(page, served.url, "alerts")
    await expect(page.get_by_text(re.compile("^200 alerts"))).to_be_visible()
    lines = await exported(page, "CSV", tmp_path)
    assert len(lines) == len(found)
    assert {line["description"] for line in lines} == {"'=1+1, quoted"}
    await page.get_by_label("Rule", exact=True).select_option("futures_top_hunter")
    alerts = await exported(page, "JSON", tmp_path)
    assert (len(alerts), {alert["rule_type"] for alert in alerts}) == (300, {"futures_top_hunter"})
    # what only the page knows: a part of a name, and what is muted
    await page.get_by_label("Symbol of alerts").fill("s00")
    await rows(page, "Alerts").filter(has_text="S001USDT").first.click()
    await page.keyboard.press("Escape")
    await page.get_by_role("grid", name="Alerts").focus()
    await page.keyboard.press("m")
    for kind in ("CSV", "JSON"):
        alerts = await exported(page, kind, tmp_path)
        assert (len(alerts), symbols_of(alerts)) == (200, {"S000USDT", "S002USDT"})
    assert list(lines[0]) == list((await exported(page, "CSV", tmp_path))[0])


async def test_an_export_that_fails_says_so(page: Page, served: Served) -> None:
    async def busy(route: Route) -> None:
        body = orjson.dumps({"error": "busy", "message": "too many exports at once; retry"})
        await route.fulfill(status=503, body=body)

    await page.route("**/api/alert-export?*", busy)
    await open_view(page, served.url, "alerts")
    await page.get_by_role("button", name="CSV", exact=True).click()
    await expect(page.get_by_role("region", name="Messages")).to_contain_text("too many exports at once")


async def test_alerts_of_one_rule_and_minute_are_one_row_until_it_is_opened(
    page: Page, served: Served
) -> None:
    alerts = [
        {
            "id": f"5e5f2f6c-95a6-5b7c-8e59-4bb0a83b6{n:03}",
            "seq": n,
            "symbol": name,
            "rule_type": "storm",
            "rule_version": 1,
            "severity": "critical",
            "description": "",
            "timestamp": f"2024-02-27T14:05:{n:02}.000Z",
            "price": 1.0,
            "metadata": {},
            "timings": {},
            "backfilled": False,
        }
        for n, name in reversed(list(enumerate(MANY[:20])))
    ]

    async def storm(route: Route) -> None:
        await route.fulfill(status=200, body=orjson.dumps({"alerts": alerts, "next_cursor": None}))

    await page.route(re.compile(r"/api/alerts\?"), storm)
    await open_view(page, served.url, "alerts")
    await expect(rows(page, "Alerts")).to_have_count(1)
    await expect(rows(page, "Alerts")).to_contain_text("20 symbols")
    await page.get_by_role("grid", name="Alerts").focus()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(rows(page, "Alerts")).to_have_count(21)
