"""The view Account: who is signed in, and the settings that follow from it."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.page.browsing import Served, faults_on_desk_and_phone, is_connected, open_view, rows, sign_in
from tests.support.eventually import eventually
from tests.support.tokens import bearer, rsa_key, rsa_token, token

pytestmark = pytest.mark.asyncio(loop_scope="module")


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("main").get_by_role("region", name=name, exact=True)


async def test_signing_in_tells_rights_and_brings_the_persons_own_settings_until_signing_out(
    page: Page, served: Served
) -> None:
    await open_view(page, served.url, "account")
    await card(page, "Sign in").get_by_label("Token").fill(token("ann"))
    await card(page, "Sign in").get_by_role("button", name="Sign in").click()
    await expect(card(page, "Signed in")).to_contain_text("ann")
    await expect(card(page, "Signed in")).to_contain_text("may read everything")
    chosen = card(page, "Alerts you chose")
    await chosen.get_by_label("Rule").select_option("bull_whale")
    await chosen.get_by_label("Symbol").fill("ethusdt")
    await chosen.get_by_role("button", name="Add").click()
    await expect(chosen).to_contain_text("bull_whale, ETHUSDT")
    await page.reload()
    await expect(chosen).to_contain_text("bull_whale, ETHUSDT")
    await card(page, "Signed in").get_by_role("button", name="Sign out").click()
    await expect(chosen).to_have_count(0)
    await sign_in(page, token("bob", admin=True))
    await expect(card(page, "Signed in")).to_contain_text("may change rules")
    await expect(chosen).to_contain_text("None yet")


async def test_a_webhook_is_set_tried_and_its_deliveries_are_listed(page: Page, served: Served) -> None:
    await open_view(page, served.url, "account")
    await sign_in(page, token("cat"))
    hook = card(page, "Webhook")
    await hook.get_by_label("URL").fill("https://127.0.0.1/private")
    await hook.get_by_role("button", name="Save").click()
    await expect(hook.get_by_role("alert")).to_contain_text("webhook_url")
    await hook.get_by_label("URL").fill("https://hooks.example/a")
    await hook.get_by_role("button", name="Save").click()
    await expect(hook.get_by_role("alert")).to_have_count(0)
    await expect(card(page, "Deliveries")).to_contain_text("Nothing was sent yet.")
    await hook.get_by_role("button", name="Show").click()
    await expect(hook).to_contain_text("whsec_")
    await hook.get_by_role("button", name="Send a test").click()
    await expect(card(page, "Deliveries").get_by_role("row")).to_have_count(2)
    await expect(card(page, "Deliveries")).to_contain_text("pending")
    assert await faults_on_desk_and_phone(page) == []


async def test_signing_in_lasts_over_a_reload_and_ends_with_its_token(page: Page, served: Served) -> None:
    await open_view(page, served.url, "account")
    form = card(page, "Sign in")
    await form.get_by_label("Token").fill("nonsense")
    await form.get_by_role("button", name="Sign in").click()
    await expect(form.get_by_role("alert")).to_contain_text("not a token")
    await sign_in(page, token("ann"))
    await page.reload()
    await expect(page.get_by_role("button", name="ann")).to_be_visible()
    await is_connected(page)
    short = token("ann", expires_in_s=4)
    await page.evaluate("text => sessionStorage.setItem('screener.token', text)", short)
    await page.reload()
    await expect(page.get_by_role("region", name="Messages")).to_contain_text("Your token ran out")
    await expect(form).to_contain_text("Your token ran out")
    await expect(page.get_by_role("button", name="ann")).to_have_count(0)
    assert await page.evaluate("sessionStorage.getItem('screener.token')") is None


async def test_a_token_that_the_screener_refuses_is_given_up(page: Page, served: Served) -> None:
    await open_view(page, served.url, "account")
    await sign_in(page, rsa_token("unknown", rsa_key()))
    await expect(page.get_by_role("region", name="Messages")).to_contain_text("no longer accepts your token")
    await expect(card(page, "Sign in")).to_be_visible()


async def document_of(served: Served, user: str) -> Any:
    return (await served.client.send("GET", "/api/me", headers=bearer(user)))[1]


async def has(served: Served, user: str, symbol: str, expected: bool = True) -> bool:
    """Return whether the stored watchlists of a user name a symbol, as expected."""
    lists = (await document_of(served, user))["document"].get("watchlists", [])
    return any(symbol in one["symbols"] for one in lists) is expected


async def is_at(served: Served, user: str, version: int) -> bool:
    return bool((await document_of(served, user))["version"] == version)


async def watch(page: Page, served: Served, symbol: str) -> None:
    """Put a symbol on the watchlist."""
    await open_view(page, served.url, f"symbols?find={symbol}")
    await page.get_by_role("button", name=f"Put {symbol} on the list").click()


async def are_watched(page: Page, served: Served, *symbols: str) -> None:
    """Wait until these are on the watchlist, and no others."""
    await open_view(page, served.url, "symbols?list=Watchlist")
    await page.reload()
    await expect(page.get_by_text(f"{len(symbols)} of 500 symbols")).to_be_visible()
    for symbol in symbols:
        await expect(rows(page, "Symbols").filter(has_text=symbol)).to_be_visible()


async def test_a_persons_lists_follow_to_another_browser_and_leave_with_the_person(
    page: Page, browser: Browser, served: Served
) -> None:
    await watch(page, served, "S001USDT")
    await sign_in(page, token("dora"))
    await eventually(lambda: has(served, "dora", "S001USDT"))
    another = await browser.new_page()
    await watch(another, served, "S002USDT")
    await sign_in(another, token("dora"))
    await are_watched(another, served, "S001USDT", "S002USDT")
    await watch(another, served, "S003USDT")
    await eventually(lambda: has(served, "dora", "S003USDT"))
    await are_watched(page, served, "S001USDT", "S002USDT", "S003USDT")
    # signed out, a browser has what it had before
    await page.locator("header .user").click()
    await page.get_by_role("dialog").get_by_role("button", name="Sign out").click()
    await are_watched(page, served, "S001USDT")
    # and brings back nothing that the person took away elsewhere
    await open_view(another, served.url, "symbols?find=S001USDT")
    await another.get_by_role("button", name="Take S001USDT off the list").click()
    await eventually(lambda: has(served, "dora", "S001USDT", False))
    await sign_in(page, token("dora"))
    await are_watched(page, served, "S002USDT", "S003USDT")
    await another.close()


async def test_what_two_browsers_change_at_once_is_joined(page: Page, served: Served) -> None:
    await open_view(page, served.url, "account")
    await sign_in(page, token("eve"))
    await page.get_by_label("No sound and no desktop notification").check()
    await eventually(lambda: is_at(served, "eve", 1))
    lists = [{"name": "Watchlist", "symbols": ["S009USDT"]}]
    change = {"version": 1, "document": {"watchlists": lists}}
    assert (await served.client.send("PUT", "/api/me", change, bearer("eve")))[0] == 200
    await watch(page, served, "S008USDT")
    await eventually(lambda: has(served, "eve", "S008USDT"))
    document = (await document_of(served, "eve"))["document"]
    assert document["watchlists"] == [{"name": "Watchlist", "symbols": ["S008USDT", "S009USDT"]}]
    assert document["quiet_hours"]["enabled"] is True
