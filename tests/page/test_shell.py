"""What all views share: keys, phones, themes, the age of the data, hostile names, the policy of what may run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from playwright.async_api import Page, Route, WebSocketRoute, expect

from tests.page.browsing import (
    DESK,
    HOSTILE,
    PATH,
    PHONE,
    Served,
    is_connected,
    open_view,
    rows,
    serious_faults,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_dialog_is_open_before_the_next_key_can_arrive(page: Page, served: Served) -> None:
    await open_view(page, served.url, "symbols")
    await expect(rows(page, "Symbols").first).to_be_visible()
    # a message arrives as soon as a key of the queue would: after the rendering, before the next frame
    opened = await page.evaluate(
        """async () => {
            const { port1, port2 } = new MessageChannel();
            const next = new Promise((resolve) => (port1.onmessage = resolve));
            [...document.querySelectorAll("button")].find((one) => one.textContent === "Columns").click();
            port2.postMessage(null);
            await next;
            return document.querySelector("dialog[open]") !== null;
        }"""
    )
    assert opened


async def test_the_table_is_few_tab_stops_away_and_every_key_is_listed(page: Page, served: Served) -> None:
    await open_view(page, served.url, "symbols")
    await expect(rows(page, "Symbols").first).to_be_visible()
    stops = 0
    while await page.evaluate("document.activeElement.role") != "grid":
        await page.keyboard.press("Tab")
        stops += 1
        assert stops < 25
    await page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys and choices")
    for does in ("Find a symbol", "Show Alerts", "Times local or UTC"):
        await expect(keys).to_contain_text(does)
    await page.keyboard.press("Escape")
    await page.keyboard.press("3")
    await expect(page.get_by_role("grid", name="Alerts")).to_be_visible()
    await page.keyboard.press("t")
    await expect(page.locator("html[data-theme=light]")).to_be_attached()


async def test_nothing_is_cut_off_on_a_phone(page: Page, served: Served) -> None:
    await page.set_viewport_size(PHONE)
    for view in ("symbols", "chart/S000USDT", "alerts"):
        await open_view(page, served.url, view)
        await expect(page.get_by_role("navigation")).to_be_in_viewport()
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


async def test_a_late_stage_is_told_in_red(page: Page, served: Served) -> None:
    async def late(route: Route) -> None:
        response = await route.fetch()
        report = await response.json()
        for stage in report["stages"].values():
            stage["state"] = "fresh"
        for server in report["dependencies"].values():
            server["state"] = "up"
        report["stages"]["calculator"] |= {"state": "stale", "age_s": 300}
        await route.fulfill(status=200, body=orjson.dumps(report))

    await page.route("**/api/health", late)
    await open_view(page, served.url, "symbols")
    age = page.locator("header .data-age")
    await expect(age).to_contain_text("calculator late: 5 min")
    await expect(age.locator(".bad").first).to_be_visible()
    await age.click()
    await expect(page.get_by_role("dialog")).to_contain_text("sends nothing new")


async def test_the_policy_lets_nothing_run_that_is_not_the_pages(
    page: Page, served: Served, complaints: list[str]
) -> None:
    answer = await page.goto(f"{served.url}{PATH}")
    assert answer is not None
    policy = await answer.header_value("content-security-policy")
    assert policy
    assert "unsafe" not in policy
    assert "*" not in policy
    await page.evaluate(
        """() => {
            window.refused = [];
            const refuse = event => window.refused.push(event.effectiveDirective);
            document.addEventListener("securitypolicyviolation", refuse);
            document.querySelector("h1").insertAdjacentHTML("beforeend", '<img src="x" onerror="window.ran = 1">');
            document.body.append(Object.assign(document.createElement("script"), {textContent: "window.ran = 1"}));
        }"""
    )
    await page.wait_for_function("() => window.refused.length >= 3")
    assert {*await page.evaluate("window.refused")} == {"img-src", "script-src-attr", "script-src-elem"}
    assert await page.evaluate("window.ran") is None
    assert all("Content Security Policy" in said for said in complaints)
    complaints.clear()


def hostile(value: Any, names: Mapping[str, str]) -> Any:
    """The same with `names` for symbols, rules and texts."""
    if isinstance(value, list):
        return [hostile(one, names) for one in value]
    if isinstance(value, dict):
        changed = {key: hostile(one, names) for key, one in value.items()}
        return changed | {key: chosen for key, chosen in names.items() if key in value}
    return value


async def test_hostile_names_are_text_in_every_view(page: Page, served: Served) -> None:
    """None gets past the screener's own checks, so they are put into its answers on the way to the browser."""
    names = {"symbol": f"S{HOSTILE}", "rule_type": f"r{HOSTILE}", "description": HOSTILE, "severity": HOSTILE}
    alert = {"id": "5e5f2f6c-95a6-5b7c-8e59-4bb0a83b6a45", "seq": 1, "rule_version": 1, "price": 1.0}
    alert |= {
        "timestamp": "2024-02-27T14:05:00.000Z",
        "metadata": {HOSTILE: 1},
        "timings": {},
        "backfilled": False,
    }
    explained = {
        "clause": {"text": HOSTILE, "truth": True, "parts": []},
        "verdict": "fired",
        "closed": True,
        "note": HOSTILE,
    }
    explained |= {
        "last_alert": None,
        "expression": HOSTILE,
        "minute": "2024-02-27T14:05:00.000Z",
        "alert": None,
    }

    async def answer(route: Route) -> None:
        path = re.sub(r".*/api/(\w+).*", r"\1", route.request.url)
        body: object = (
            {"alerts": [alert | names], "next_cursor": None} if path == "alerts" else explained | names
        )
        await route.fulfill(status=200, body=orjson.dumps(body))

    def socket(route: WebSocketRoute) -> None:
        server = route.connect_to_server()
        server.on_message(lambda text: route.send(orjson.dumps(hostile(orjson.loads(text), names)).decode()))

    await page.route(re.compile("/api/(alerts|explain)"), answer)
    await page.route_web_socket(re.compile("/ws"), socket)
    await open_view(page, served.url, "symbols")
    await is_connected(page)
    await expect(rows(page, "Symbols").first).to_contain_text(names["symbol"])
    await page.keyboard.press("3")
    await expect(rows(page, "Alerts").first).to_contain_text(names["rule_type"])
    await rows(page, "Alerts").first.click()
    await expect(page.get_by_role("dialog")).to_contain_text(HOSTILE)
    await page.get_by_role("dialog").get_by_role("link", name="Chart").click()
    await expect(page.get_by_role("heading", name="Chart of")).to_be_attached()
    assert await page.locator("img, svg[onload], script:not([src])").count() == 0
    assert await page.evaluate("window.ran") is None


async def test_axe_finds_nothing_serious_in_any_view_theme_or_size(page: Page, served: Served) -> None:
    faults = []
    for view, table in (
        ("symbols", "Symbols"),
        ("chart/S000USDT", "Alerts of this chart"),
        ("alerts", "Alerts"),
    ):
        await open_view(page, served.url, view)
        await expect(page.get_by_role("grid", name=table)).to_be_visible()
        for size in (DESK, PHONE):
            await page.set_viewport_size(size)
            for theme in ("light", "dark"):
                await page.emulate_media(color_scheme=theme)
                await expect(page.locator(f"html[data-theme={theme}]")).to_be_attached()
                faults += [f"{view} {theme} {size['width']}: {fault}" for fault in await serious_faults(page)]
    assert faults == []
