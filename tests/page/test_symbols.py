"""The view Symbols, with hundreds of them and tiny prices: found, sorted, bounded, watched, columns chosen."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.page.browsing import PATH, Served, open_view, rows

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_all_symbols_are_there_though_only_rows_in_sight_are_made(page: Page, served: Served) -> None:
    await open_view(page, served.url, "symbols")
    await expect(page.get_by_text("500 symbols")).to_be_visible()
    listed, grid = rows(page, "Symbols"), page.get_by_role("grid", name="Symbols")
    await expect(grid).to_have_attribute("aria-rowcount", "501")
    await expect(listed.filter(has_text="S499USDT")).to_be_visible()
    assert await listed.count() < 100
    await grid.focus()
    await page.keyboard.press("End")
    await expect(listed.filter(has_text="S000USDT")).to_be_visible()
    await expect(grid).to_have_attribute("aria-activedescendant", re.compile("-r499$"))
    # no exponent anywhere, and turnover in words of people
    await expect(listed.filter(has_text="S000USDT")).to_contain_text("0.000000001")
    await expect(listed.filter(has_text="S000USDT")).to_contain_text("3.0T")


async def test_symbols_are_found_sorted_bounded_and_watched_without_a_mouse(
    page: Page, served: Served
) -> None:
    await open_view(page, served.url, "symbols")
    listed, grid = rows(page, "Symbols"), page.get_by_role("grid", name="Symbols")
    await expect(listed.first).to_be_visible()
    await page.keyboard.press("/")
    await page.keyboard.type("s00")
    await expect(page.get_by_text("10 of 500 symbols")).to_be_visible()
    await grid.focus()
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("columnheader", name="Symbol")).to_have_attribute("aria-sort", "ascending")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("f")
    await expect(listed.filter(has_text="S000USDT")).to_contain_text("★")
    await page.get_by_label("Watchlist").select_option("Watchlist")
    await expect(listed).to_have_count(1)
    await page.goto(f"{served.url}{PATH}#/symbols?where=price_change:5m>489,price_change:5m<495")
    await expect(listed).to_have_count(5)
    await page.reload()
    await expect(listed).to_have_count(5)


async def test_columns_are_chosen_and_kept(page: Page, served: Served) -> None:
    await open_view(page, served.url, "symbols")
    await page.get_by_role("button", name="Columns").click()
    await page.get_by_label("RSI 1h", exact=True).check()
    await page.keyboard.press("Escape")
    await expect(rows(page, "Symbols").filter(has_text="S499USDT")).to_contain_text("49.9")
    await page.reload()
    await expect(page.get_by_role("columnheader", name="RSI 1h")).to_be_visible()
