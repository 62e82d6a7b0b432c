"""The view Screens: an expression written with completion, its symbols as they change, kept and shared."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect

from tests.page.browsing import Served, faults_on_desk_and_phone, open_view, rows

pytestmark = pytest.mark.asyncio(loop_scope="module")

MATCHING = "Symbols that match"


async def test_a_screen_is_written_with_completion_and_its_symbols_change_with_the_market(
    page: Page, served: Served
) -> None:
    served.take_many()
    await open_view(page, served.url, "screens")
    await expect(page.get_by_role("link", name="Oversold")).to_be_visible()
    await expect(page.get_by_role("textbox", name="Where")).to_be_visible()
    await page.keyboard.press("/")
    await page.keyboard.type("price_change_5")
    await page.get_by_role("option", name="price_change_5m").first.click()
    await page.keyboard.type(" > ")
    await expect(page.get_by_role("status").filter(has_text="where:")).to_be_visible()
    await page.keyboard.type("497 ")
    await expect(rows(page, MATCHING)).to_have_count(2)
    await expect(page.get_by_text("2 of 500 symbols, live")).to_be_visible()
    served.take({"S000USDT": {"close_1m": 1.0, "price_change_5m": 600.0}})
    await expect(rows(page, MATCHING)).to_have_count(3)
    await expect(rows(page, MATCHING).filter(has_text="S000USDT")).to_contain_text("600")
    assert await faults_on_desk_and_phone(page) == []
    await page.get_by_role("textbox", name="Where").press("End")
    await page.keyboard.type(" + ")
    await expect(page.get_by_role("status").filter(has_text="where:")).to_be_visible()
    await expect(rows(page, MATCHING)).to_have_count(0)


async def test_a_screen_is_saved_found_again_and_shared_by_its_link(
    page: Page, browser: Browser, served: Served
) -> None:
    served.take_many()
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await open_view(page, served.url, "screens?where=price_change_5m+%3E+489&sort=rsi_14_1h")
    await expect(rows(page, MATCHING)).to_have_count(10)
    await page.get_by_role("button", name="Save…").click()
    await page.get_by_label("Name of the screen").fill("Racers")
    await page.get_by_role("button", name="Save", exact=True).click()
    await page.get_by_role("button", name="Examples").click()
    await page.reload()
    await page.get_by_label("Saved screens").select_option("Racers")
    await expect(rows(page, MATCHING)).to_have_count(10)
    await page.get_by_role("button", name="Copy link").click()
    await expect(page.get_by_text("is in the clipboard")).to_be_visible()
    link = await page.evaluate("navigator.clipboard.readText()")
    another = await browser.new_page()
    await another.goto(link)
    await expect(rows(another, MATCHING)).to_have_count(10)
    await expect(another.get_by_role("textbox", name="Sorted by")).to_have_text("rsi_14_1h")
    await another.close()
