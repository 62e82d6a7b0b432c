"""The page beside a running `screener up`: alerts as they fire, candles as they form, a sidecar that restarts."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any

import aiohttp
import orjson
import pytest
from playwright.async_api import Page, Route, expect

from app.candles.batch import MINUTE_MS
from tests.page.browsing import HOSTILE, is_connected, open_view, rows
from tests.support.eventually import eventually
from tests.support.running_up import Up
from tests.support.tokens import bearer

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def apply(up: Up, rule_type: str, **fields: Any) -> None:
    """Apply a rule that fires on the next update of its symbol."""
    rule = {
        "rule_type": rule_type,
        "expression": "close_1m > 0",
        "severity": "high",
        "mode": "live",
        **fields,
    }
    async with (
        aiohttp.ClientSession(headers=bearer(admin=True)) as session,
        session.post(f"{up.url}/api/rules", json=rule) as answer,
    ):
        assert answer.status == 201, await answer.text()


async def test_an_alert_appears_says_why_and_leads_to_its_chart_by_single_keys(page: Page, up: Up) -> None:
    await open_view(page, up.url, "alerts?rule=applied_later")
    await is_connected(page)
    await apply(up, "applied_later", symbols=["BTCUSDT"], description=HOSTILE)
    row = rows(page, "Alerts")
    await expect(row).to_have_count(1)
    await expect(row).to_contain_text("BTCUSDT")
    await expect(row).to_contain_text("high")
    await page.get_by_role("grid", name="Alerts").focus()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("w")
    why = page.get_by_role("dialog", name="Why? BTCUSDT")
    await expect(why).to_contain_text("It fired.")
    await expect(why).to_contain_text("close_1m > 0")
    await page.keyboard.press("Escape")
    await expect(why).to_be_hidden()
    await page.get_by_role("grid", name="Alerts").focus()
    await page.keyboard.press("c")
    await expect(page).to_have_url(re.compile("#/chart/BTCUSDT"))
    marked = rows(page, "Alerts of this chart").filter(has_text="applied_later")
    await expect(marked).to_have_count(1)
    assert await page.evaluate("window.ran") is None


async def test_filters_stand_in_the_address_and_a_mute_hides_what_it_names(page: Page, up: Up) -> None:
    for name, severity in (("one_kind", "low"), ("another_kind", "medium")):
        await apply(up, name, symbols=["ETHUSDT"], severity=severity)
    await open_view(page, up.url, "alerts")
    listed = rows(page, "Alerts")
    await expect(listed.filter(has_text="one_kind")).to_have_count(1)
    await expect(listed.filter(has_text="another_kind")).to_have_count(1)
    await page.get_by_role("button", name="low", exact=True).click()
    await expect(listed.filter(has_text="another_kind")).to_have_count(0)
    await expect(page).to_have_url(re.compile("severity=low"))
    await page.reload()
    await expect(listed.filter(has_text="one_kind")).to_have_count(1)
    await expect(listed.filter(has_text="another_kind")).to_have_count(0)
    await page.get_by_label("Symbol of alerts").fill("btc")
    await expect(listed).to_have_count(0)
    await page.get_by_label("Symbol of alerts").fill("")
    await listed.filter(has_text="one_kind").click()
    await expect(page.get_by_role("dialog", name="Why? ETHUSDT")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.get_by_role("grid", name="Alerts").focus()
    await page.keyboard.press("Shift+M")
    await expect(listed.filter(has_text="one_kind")).to_have_count(0)
    await page.get_by_role("button", name="1 muted").click()
    await expect(listed.filter(has_text="one_kind")).to_have_count(1)


async def test_the_first_alert_of_all_is_shown_if_it_fires_between_the_reading_and_the_subscription(
    page: Page, up: Up
) -> None:
    await apply(up, "the_first", symbols=["ETHUSDT"])

    async def has_fired() -> bool:
        query = f"{up.url}/api/alerts?rule_type=the_first"
        async with aiohttp.ClientSession(headers=bearer()) as session, session.get(query) as answer:
            return bool((await answer.json())["alerts"])

    await eventually(has_fired)

    async def as_before(route: Route) -> None:
        await route.fulfill(json={"alerts": [], "next_cursor": None})

    await page.route(re.compile(r"/api/alerts\?"), as_before)
    await open_view(page, up.url, "alerts?rule=the_first")
    await expect(rows(page, "Alerts")).to_have_count(1)


async def test_a_shadow_rule_is_counted_and_its_alerts_are_told_to_nobody(page: Page, up: Up) -> None:
    await open_view(page, up.url, "alerts?symbol=ETHUSDT")
    await is_connected(page)
    await apply(up, "in_the_shadow", symbols=["ETHUSDT"], shadow=True)
    await apply(up, "in_the_light", symbols=["ETHUSDT"])
    await expect(rows(page, "Alerts").filter(has_text="in_the_light")).to_have_count(1)
    async with aiohttp.ClientSession() as session:
        await eventually(lambda: _is_stored(session, up, "in_the_shadow"))
    await page.reload()
    await expect(rows(page, "Alerts").filter(has_text="in_the_light")).to_have_count(1)
    await expect(rows(page, "Alerts").filter(has_text="in_the_shadow")).to_have_count(0)
    await open_view(page, up.url, "rules/in_the_shadow")
    listed = page.get_by_role("listitem").filter(has_text="in_the_shadow")
    await expect(listed.locator(".state")).to_contain_text("shadow")
    await expect(listed).to_contain_text("1 in 24 h, last ETHUSDT")


async def _is_stored(session: aiohttp.ClientSession, up: Up, rule_type: str) -> bool:
    wanted = {"rule_type": rule_type, "shadow": "true"}
    async with session.get(f"{up.url}/api/alerts", params=wanted) as answer:
        return [alert["symbol"] for alert in (await answer.json())["alerts"]] == ["ETHUSDT"]


async def test_rows_under_the_pointer_stay_and_their_prices_go_on(page: Page, up: Up) -> None:
    await open_view(page, up.url, "symbols")
    await rows(page, "Symbols").nth(2).hover()
    await page.evaluate(
        """() => {
            const cells = index => [...document.querySelectorAll(".grid-rows > [role=row]")]
                .sort((one, other) => one.ariaRowIndex - other.ariaRowIndex)
                .map(row => row.children[index].textContent).join();
            window.seen = {names: cells(0), prices: cells(1), cells};
        }"""
    )
    for _ in range(3):
        await page.wait_for_function("() => window.seen.cells(1) !== window.seen.prices")
        assert await page.evaluate("window.seen.cells(0) === window.seen.names")
        await page.evaluate("window.seen.prices = window.seen.cells(1)")


_MOVES = """([changing, beside]) => {
    const lefts = ["1", "99,999.9", "999.9B"].map(text => {
        document.querySelector(changing).textContent = text;
        return document.querySelector(beside).getBoundingClientRect().left;
    });
    return Math.max(...lefts) - Math.min(...lefts);
}"""


@pytest.mark.parametrize(
    ("view", "changing", "beside"),
    [
        ("symbols", ".turnover dd > span:first-child", ".turnover dd > span:last-child"),
        ("symbols", ".turnover dd", ".turnover + div"),
        ("symbols", ".fact dd", ".fact + div"),
        ("chart/BTCUSDT", ".legend-value", ".legend-value + .legend-value"),
        ("chart/BTCUSDT", ".below [role=status]", ".below a"),
    ],
)
async def test_nothing_moves_when_a_value_beside_it_changes(
    page: Page, up: Up, view: str, changing: str, beside: str
) -> None:
    await open_view(page, up.url, view)
    await expect(page.locator(beside).first).to_be_visible()
    assert await page.evaluate(_MOVES, [changing, beside]) == 0


async def has_candles(up: Up) -> bool:
    """Return whether the database has a page of them: metrics are there before their candles are stored."""
    url = f"{up.url}/api/klines?symbol=BTCUSDT&interval=1m&limit=500"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status == 200 and len(await answer.json()) == 500


async def test_a_chart_that_was_opened_before_any_candle_was_stored_fills_by_itself(
    page: Page, up: Up
) -> None:
    readings = 0

    async def nothing_at_first(route: Route) -> None:
        nonlocal readings
        readings += 1
        if readings == 1:
            await route.fulfill(body="[]", content_type="application/json")
        else:
            await route.continue_()

    await page.route(re.compile(r"/api/klines\?.*interval=1m&limit=500$"), nothing_at_first)
    await eventually(partial(has_candles, up))
    await open_view(page, up.url, "chart/BTCUSDT?interval=1m")
    chart = page.get_by_role("img", name=re.compile("1m candles of BTCUSDT, last price [0-9,.]+"))
    await expect(chart).to_be_visible()
    await eventually(lambda: readings == 2)


async def test_minutes_between_the_reading_of_the_chart_and_the_first_live_candle_are_no_gap(
    page: Page, up: Up
) -> None:
    """As on a slow machine, or in a tab that slept: the answer is three minutes old when live candles come."""
    answers: list[list[int]] = []
    shown = asyncio.Event()

    async def as_of_before(route: Route) -> None:
        response = await route.fetch()
        bars = await response.json()
        first = not answers
        bars = bars[:-3] if first else bars
        answers.append([bar[0] for bar in bars])
        if not first:
            await shown.wait()
        await route.fulfill(response=response, body=orjson.dumps(bars))

    await page.route(re.compile(r"/api/klines\?.*interval=1m&limit=500$"), as_of_before)
    await eventually(partial(has_candles, up))
    await open_view(page, up.url, "chart/BTCUSDT?interval=1m")
    below = page.locator(".below")
    await expect(below).to_contain_text("candles are missing")
    told = re.search(r"(\d+) candles are missing", await below.inner_text())
    await eventually(lambda: len(answers) == 2)
    shown.set()
    await expect(below).not_to_contain_text("missing")
    assert len(answers) == 2
    # up to the live candle, whose minute the second reading may have or not
    kept, newest = answers[0], answers[1][-1]
    missing = [(live - kept[0]) // MINUTE_MS - len(kept) for live in (newest, newest + MINUTE_MS)]
    assert told is not None
    assert int(told[1]) in missing


async def test_the_chart_reads_its_past_and_shows_missing_candles_as_a_gap(page: Page, up: Up) -> None:
    left_out: list[int] = []

    async def with_a_gap(route: Route) -> None:
        response = await route.fetch()
        bars = await response.json()
        left_out[:] = left_out or [bar[0] for bar in bars[-20:-15]]
        await route.fulfill(
            response=response, body=orjson.dumps([bar for bar in bars if bar[0] not in left_out])
        )

    await page.route(re.compile(r"/api/klines\?.*interval=1m&limit=500$"), with_a_gap)
    await open_view(page, up.url, "chart/BTCUSDT?interval=1m")
    chart = page.get_by_role("img", name=re.compile("1m candles of BTCUSDT, last price [0-9,.]+"))
    await expect(chart).to_be_visible()
    await expect(page.locator(".below")).to_contain_text("5 candles are missing")
    async with page.expect_request(re.compile("endTime=")):
        for _ in range(60):
            await page.keyboard.press("ArrowLeft")
    before = await chart.get_attribute("aria-label")
    assert before
    await expect(chart).not_to_have_attribute("aria-label", before)
    for name in ("VWAP", "Bollinger", "Ichimoku", "RSI", "MACD"):
        await page.get_by_role("button", name=name, exact=True).click()
    await expect(page.locator(".lines")).to_contain_text("Span A")
    await page.keyboard.press(".")
    await expect(page).to_have_url(re.compile("interval=5m"))


async def test_a_restart_of_the_sidecar_is_told_and_no_alert_is_missed(page: Page, up: Up) -> None:
    await open_view(page, up.url, "alerts?rule=after_restart")
    await is_connected(page)
    sidecar = up.find("run sidecar")
    assert sidecar
    sidecar.kill()
    state = page.locator("header [role=status]")
    await expect(state).to_contain_text("next try in")
    await is_connected(page)
    await apply(up, "after_restart", symbols=["BTCUSDT"])
    await expect(rows(page, "Alerts")).to_have_count(1)
