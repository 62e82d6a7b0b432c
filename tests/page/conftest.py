"""Servers and one Chromium for the tests of a module, and a tab of its own for each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from app.settings import Settings
from tests.page.browsing import Served
from tests.support.eventually import eventually
from tests.support.running_up import Up, running
from tests.support.sidecar import prepare, running_sidecar
from tests.support.tokens import SECRET

STARTS_WITHIN_S = 240.0
PATIENCE_S = 60
"""How long a thing on the page may take; it is there within a second unless the machine is busy."""
expect.set_options(timeout=PATIENCE_S * 1000)
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def chromium() -> str:
    """The path of the program. `.ci/chromium` installs it."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no Chromium (Debian: chromium)")
    assert found
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    directory = tmp_path_factory.mktemp("page")
    with running(directory, SCREENER_JWT_SECRET=SECRET) as started:
        await started.is_up(STARTS_WITHIN_S)
        await eventually(partial(is_filled, started), STARTS_WITHIN_S)
        await eventually(partial(has_evaluated, started, datetime.now(UTC)), STARTS_WITHIN_S)
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(module_settings: Settings) -> AsyncIterator[Served]:
    """A sidecar alone, whose values a test makes up: many symbols, of this minute."""
    settings = Settings.model_validate({**module_settings.model_dump(), "jwt_secret": SECRET})
    await prepare(settings)
    async with running_sidecar(settings) as client:
        served = Served(settings, client)
        served.take_many()
        yield served


async def is_filled(up: Up) -> bool:
    """Return whether the symbols that tests apply rules to have their day of history."""
    async with aiohttp.ClientSession() as session:
        for symbol in ("BTCUSDT", "ETHUSDT"):
            async with session.get(f"{up.url}/api/metrics/{symbol}") as answer:
                if answer.status != 200:
                    return False
                values = await answer.json()
            # while the past is filled, a day may be whole before an hour that is past
            is_now = datetime.now(UTC) - datetime.fromisoformat(values["timestamp"]) < timedelta(minutes=1)
            if not is_now or values["timeframes"]["1d"]["price_change"] is None:
                return False
    return True


async def has_evaluated(up: Up, since: datetime) -> bool:
    """Return whether rules were evaluated on all that was calculated before `since`. An alert of a minute being filled
    is stored and shown to nobody, and its cooldown holds back the alert of now."""
    async with aiohttp.ClientSession() as session, session.get(f"{up.url}/api/health") as answer:
        health = await answer.json()
    work = health["stages"]["alerts"]["work"]["alerts"]
    oldest_waits = timedelta(seconds=work["waiting_s"] or 0.0)
    waits_since = datetime.fromisoformat(health["time"]) - oldest_waits
    return work["handled"] is not None and min(waits_since, datetime.fromisoformat(work["handled"])) > since


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        await started.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser says is wrong with the page. A test that expects some takes them out."""
    return []


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, complaints: list[str]) -> AsyncIterator[Page]:
    """An empty tab; nothing in it may go wrong unseen."""
    tab = await browser.new_page(viewport={"width": 1400, "height": 900})
    tab.set_default_timeout(PATIENCE_S * 1000)

    def hear(said: ConsoleMessage) -> None:
        # Chromium's own line about an answer that is not 2xx is no fault of the page
        # nor is its line about a sidecar that a test stopped
        harmless = ("Failed to load resource", "WebSocket connection to")
        if said.type in ("error", "warning") and not said.text.startswith(harmless):
            complaints.append(said.text)

    tab.on("console", hear)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
    yield tab
    await tab.close()
    assert complaints == []
