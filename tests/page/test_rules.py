"""The view Rules: what each rule did, and writing, trying and changing one."""

from __future__ import annotations

import re
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from app.candles.batch import MINUTE_MS
from app.clock import SystemClock
from app.database.connection import open_pool
from app.sinks.copy import write_candles
from app.times import rfc3339
from tests.page.browsing import Served, faults_on_desk_and_phone, open_view, sign_in
from tests.support.alerts import make_alert, store
from tests.support.database import candles
from tests.support.tokens import bearer, token

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADMIN = {"user": "root", "admin": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def traded(served: Served) -> Served:
    """Two symbols have hours of minutes, and one rule has fired three times."""
    now_ms = SystemClock().now_ms()
    fired = [
        make_alert(n, f"S00{n}USDT", "futures_pioneer_bull") | {"timestamp": rfc3339(now_ms - n * 3_600_000)}
        for n in range(3)
    ]
    await store(served.settings, range(3), fired)
    minutes = candles(["S001USDT", "S002USDT"], 180, (now_ms // MINUTE_MS - 180) * MINUTE_MS)
    async with await open_pool(served.settings.postgres()) as pool, pool.connection() as connection:
        await write_candles(connection, minutes)
    return served


async def create(served: Served, name: str, **fields: Any) -> None:
    rule = {"rule_type": name, "expression": "price_change_5m > 2", "severity": "low", **fields}
    status, answer = await served.client.send("POST", "/api/rules", rule, bearer(**ADMIN))
    assert status == 201, answer


def listed(page: Page, name: str) -> Locator:
    return page.get_by_role("listitem").filter(has=page.get_by_text(name, exact=True))


def condition(page: Page) -> Locator:
    return page.get_by_role("textbox", name=re.compile("^Condition of "))


async def test_each_rule_is_listed_with_its_state_and_what_it_did(page: Page, traded: Served) -> None:
    await open_view(page, traded.url, "rules")
    await expect(listed(page, "futures_pioneer_bull")).to_contain_text("active")
    await expect(listed(page, "futures_pioneer_bull")).to_contain_text("3 in 24 h, last S000USDT")
    await expect(listed(page, "bull_whale")).to_contain_text("disabled")
    await expect(listed(page, "bull_whale")).to_contain_text("never before")
    await page.get_by_label("Find a rule").fill("pioneer")
    await expect(listed(page, "bull_whale")).to_have_count(0)
    await listed(page, "futures_pioneer_bull").click()
    await expect(condition(page)).to_contain_text("price_change_5m > 1")
    await expect(page.get_by_text("Signed in as an administrator you can change it.")).to_be_visible()
    await expect(page.get_by_role("button", name="Save")).to_have_count(0)


async def test_a_rule_is_written_with_completion_and_its_backtest_stands_beside_it(
    page: Page, traded: Served
) -> None:
    await open_view(page, traded.url, "rules")
    await sign_in(page, token(**ADMIN))
    await page.keyboard.press("n")
    await page.get_by_label("Name", exact=True).fill("steep_rise")
    await condition(page).click()
    await page.keyboard.type("price_change_5")
    await page.get_by_role("option", name="price_change_5m").first.click()
    await expect(condition(page)).to_have_text("price_change_5m")
    await page.keyboard.type(" > 2 and nonsense_5m > 1")
    await expect(page.locator(".cm-lintRange-error")).to_have_text("nonsense_5m")
    backtest = page.get_by_role("region", name="Backtest")
    await expect(backtest).to_contain_text("The expression has errors")
    await condition(page).press("ControlOrMeta+a")
    await page.keyboard.type("price_change_5m > 2 ")
    await expect(page.locator(".cm-lintRange-error")).to_have_count(0)
    await expect(backtest).to_contain_text(re.compile(r"[1-9]\d* alerts of 2 symbols"))
    await expect(backtest.get_by_role("link", name="S001USDT").first).to_be_visible()
    text_box, backtest_box = await condition(page).bounding_box(), await backtest.bounding_box()
    assert text_box
    assert backtest_box
    assert backtest_box["x"] > text_box["x"] + text_box["width"]
    await page.get_by_role("button", name="Create").click()
    await expect(page).to_have_url(re.compile("#/rules/steep_rise$"))
    await expect(listed(page, "steep_rise")).to_contain_text("version 1")
    assert await faults_on_desk_and_phone(page) == []


async def test_versions_show_what_changed_and_a_rule_is_put_in_the_shadow_disabled_and_enabled(
    page: Page, traded: Served
) -> None:
    await create(traded, "changing")
    await open_view(page, traded.url, "rules/changing")
    await sign_in(page, token(**ADMIN))
    save = page.get_by_role("button", name="Save")
    await expect(save).to_be_disabled()
    await condition(page).press("ControlOrMeta+a")
    await page.keyboard.type("price_change_5m > 3 ")
    await page.keyboard.press("Escape")
    await save.click()
    await expect(listed(page, "changing")).to_contain_text("version 2")
    await page.get_by_text("Versions", exact=True).click()
    newest = page.get_by_role("listitem").filter(has_text="Version 2")
    await expect(newest.locator("del")).to_have_text("2")
    await expect(newest.locator("ins")).to_have_text("3")
    await page.get_by_role("combobox", name="Alerts").select_option("shadow: stored only")
    await save.click()
    await expect(listed(page, "changing")).to_contain_text("shadow")
    await expect(page.get_by_role("link", name="Its shadow alerts, CSV")).to_be_visible()
    for action, state in (("Disable", "disabled"), ("Enable", "shadow")):
        await page.get_by_role("button", name=action, exact=True).click()
        await expect(listed(page, "changing")).to_contain_text(state)
        # nothing is left that a click on Save would undo
        await expect(save).to_be_disabled()


async def test_a_rule_is_disabled_as_another_person_changed_it_and_a_draft_stays(
    page: Page, traded: Served
) -> None:
    await create(traded, "of_two")
    await open_view(page, traded.url, "rules/of_two")
    await sign_in(page, token(**ADMIN))
    await page.get_by_label("Description").fill("mine")
    rule = {"rule_type": "of_two", "expression": "price_change_5m > 7", "severity": "critical"}
    status, _ = await traded.client.send("PUT", "/api/rules/of_two", rule, bearer(**ADMIN))
    assert status == 200
    await page.get_by_role("button", name="Disable").click()
    await expect(listed(page, "of_two")).to_contain_text("disabled")
    await expect(condition(page)).to_have_text("price_change_5m > 7")
    await expect(page.get_by_label("Description")).to_have_value("mine")


async def test_a_rule_applied_later_is_in_the_lists_of_an_open_page(page: Page, traded: Served) -> None:
    await page.clock.install()
    await open_view(page, traded.url, "alerts")
    choice = page.get_by_label("Rule", exact=True)
    await expect(choice.locator("option", has_text="futures_pioneer_bull")).to_be_attached()
    await create(traded, "applied_later")
    await page.clock.run_for(60_000)
    await expect(choice.locator("option", has_text="applied_later")).to_be_attached()
