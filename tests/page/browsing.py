"""Words for tests of the page: what it shows, its address, its tables, and the faults that axe finds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from playwright.async_api import Locator, Page, expect

from app.clock import SystemClock
from app.settings import Settings
from tests.support.metric_batches import metrics_batch
from tests.support.sidecar import Client

PATH = "/"
HOSTILE = '"><img src=x onerror="window.ran=1"><script>window.ran=1</script><svg onload=window.ran=1>'
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1400, "height": 900}
_AXE = Path(__file__).parents[2] / "app/sidecar/page/node_modules/axe-core/axe.min.js"

MANY = [f"S{number:03}USDT" for number in range(500)]


@dataclass(frozen=True)
class Served:
    """A sidecar in this process, of which a test says what the market does."""

    settings: Settings
    client: Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.client.sidecar.port}"

    def take(self, values: Mapping[str, Mapping[str, float]]) -> None:
        """Let symbols have these values in the last whole minute."""
        minute_ms = SystemClock().now_ms() // 60_000 * 60_000 - 60_000
        rows = [(symbol, minute_ms, known) for symbol, known in values.items()]
        self.client.sidecar.parts.latest.take(metrics_batch(rows))

    def take_many(self) -> None:
        """Symbols with tiny prices, a vast turnover, and the changes 0 to 499 %."""
        self.take(
            {
                name: {
                    "close_1m": 1e-9 * (n + 1),
                    "price_change_5m": float(n),
                    "quote_volume_1d": 3e12,
                    "rsi_14_1h": n / 10,
                }
                for n, name in enumerate(MANY)
            }
        )


async def open_view(page: Page, url: str, address: str) -> None:
    """Show a view, by its address after #/."""
    await page.goto(f"{url}{PATH}#/{address}")
    await expect(page.get_by_role("heading", level=1)).to_be_visible()


def rows(page: Page, name: str) -> Locator:
    """The rows in sight of a table, without its head."""
    return page.get_by_role("grid", name=name, exact=True).locator(".grid-rows > [role=row]")


async def is_connected(page: Page) -> None:
    await expect(page.locator("header [role=status]")).to_have_text(re.compile("Live"))


async def serious_faults(page: Page) -> list[str]:
    """What axe finds serious or critical."""
    await page.evaluate(_AXE.read_text())
    found = await page.evaluate("axe.run()")
    return [
        f"{fault['id']}: {node['html']}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


async def sign_in(page: Page, token: str) -> None:
    """Sign in by the dialog of the header."""
    await page.locator("header .user").click()
    dialog = page.get_by_role("dialog", name="Sign in")
    await dialog.get_by_label("Token").fill(token)
    await dialog.get_by_role("button", name="Sign in").click()
    await expect(dialog).to_be_hidden()


async def faults_on_desk_and_phone(page: Page) -> list[str]:
    """What axe finds on a desk in light, and on a phone in the dark, where the view must fit."""
    faults = []
    for size, theme in ((DESK, "light"), (PHONE, "dark")):
        await page.set_viewport_size(size)
        await page.emulate_media(color_scheme=theme)
        await expect(page.locator(f"html[data-theme={theme}]")).to_be_attached()
        faults += [f"{theme} {size['width']}: {fault}" for fault in await serious_faults(page)]
    if await page.evaluate("document.documentElement.scrollWidth") > PHONE["width"]:
        faults.append("wider than a phone")
    return faults
