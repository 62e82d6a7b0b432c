"""The chart of one symbol: its address, and the alerts beside it."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from app.candles.batch import MINUTE_MS
from app.clock import SystemClock
from app.database.connection import open_pool
from app.sinks.copy import write_candles
from app.times import rfc3339
from tests.page.browsing import Served, open_view, rows
from tests.support.alerts import make_alert, store
from tests.support.database import candles

pytestmark = pytest.mark.asyncio(loop_scope="module")
TOLD, TRIED = "futures_top_hunter", "futures_pioneer_bull"


async def test_a_symbol_in_chinese_has_its_chart_and_an_address_that_can_be_shared(
    page: Page, served: Served
) -> None:
    name = "\u9f99\u867eUSDT"
    minutes = candles([name], 30, (SystemClock().now_ms() // MINUTE_MS - 30) * MINUTE_MS)
    async with await open_pool(served.settings.postgres()) as pool, pool.connection() as connection:
        await write_candles(connection, minutes)
    await open_view(page, served.url, f"chart/{name}?interval=1m")
    chart = page.get_by_role("img", name=re.compile(f"1m candles of {name}, last price [0-9,.]+"))
    await expect(chart).to_be_visible()
    await page.get_by_role("button", name="5m", exact=True).click()
    shared = await page.evaluate("location.href")
    await page.goto("about:blank")
    await page.goto(shared)
    await expect(
        page.get_by_role("img", name=re.compile(f"5m candles of {name}, last price"))
    ).to_be_visible()


async def test_alerts_of_rules_in_the_shadow_are_on_the_chart_when_asked_for(
    page: Page, served: Served
) -> None:
    name = "SHADOWUSDT"
    now_ms = SystemClock().now_ms()
    async with await open_pool(served.settings.postgres()) as pool, pool.connection() as connection:
        await write_candles(connection, candles([name], 30, (now_ms // MINUTE_MS - 30) * MINUTE_MS))
    found = [make_alert(n, name, rule) for n, rule in enumerate((TOLD, TRIED))]
    for n, alert in enumerate(found):
        alert["timestamp"] = rfc3339(now_ms - (n + 3) * MINUTE_MS)
    await store(served.settings, range(2), [found[0], found[1] | {"shadow": True}])
    await open_view(page, served.url, f"chart/{name}?interval=1m")
    listed = rows(page, "Alerts of this chart")
    await expect(listed).to_have_count(1)
    await page.get_by_role("button", name="Shadow").click()
    await expect(listed).to_have_count(2)
    tried = listed.filter(has_text=TRIED)
    await expect(tried.get_by_role("img", name="shadow")).to_be_visible()
    await expect(listed.filter(has_text=TOLD).get_by_role("img", name="shadow")).to_have_count(0)
    await page.reload()
    await expect(listed).to_have_count(2)
    await page.get_by_role("button", name="Shadow").click()
    await expect(listed).to_have_count(1)
