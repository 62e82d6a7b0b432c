"""The page in a browser: first paint, main thread under 500 symbols x 4 updates/s, long tasks, heap, and bundle size.

A sidecar in this process gets new values of every symbol from Kafka four times a second, and Chromium shows its page on
a desktop screen. Screenshots of each view, desktop and phone, light and dark, go to benchmarks/page.

The path is hot because users keep the page open all day: its CPU time is missing for everything else they do.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from playwright.async_api import Browser, CDPSession, Page, async_playwright

from app.candles.batch import MINUTE_MS, CandleBatch
from app.clock import SystemClock
from app.database.connection import open_pool
from app.database.migrate import migrate
from app.local.servers.embedded import EmbeddedStack
from app.market.fields import COLUMN_POSITION, METRIC_COLUMNS
from app.market.metrics import MetricsBatch
from app.settings import Settings
from app.sidecar.run import serve_sidecar
from app.sinks.copy import write_candles
from app.telemetry.catalogue import RoleRegistry
from app.telemetry.log_output import configure_logging
from app.wire.frames import FrameInfo, encode_metrics
from app.wire.kafka import ensure_topics, kafka_producer
from app.wire.topics import Topics, shard_of

_EVERY_S = 0.25
_HEAPS = 12
_MINUTES = 1_440
_SHOTS = Path(__file__).parent / "page"
_BUILT = Path(__file__).parents[1] / "app/sidecar/page/built"
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_DESK, _PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
_OBSERVE = """() => {
    window.longTasks = [];
    new PerformanceObserver(list => window.longTasks.push(...list.getEntries().map(entry => entry.duration)))
        .observe({type: "longtask", buffered: true});
    window.shifts = 0;
    new PerformanceObserver(list => { for (const entry of list.getEntries()) window.shifts += entry.value; })
        .observe({type: "layout-shift"});
}"""
_FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one view. heap: MB after a garbage collection, measured from the beginning to the end."""

    view: str
    first_paint_ms: float
    busy_pct: float
    longest_task_ms: float
    layout_shift: float
    heap: tuple[float, ...]

    def row(self) -> str:
        return (
            f"| {self.view} | {self.first_paint_ms:.0f} | {self.busy_pct:.1f} % | {self.longest_task_ms:.0f} "
            f"| {self.layout_shift:.3f} | {' → '.join(f'{each:.1f}' for each in self.heap)} |"
        )


def _values(
    symbols: Sequence[str], closes: np.ndarray, now_ms: int, draw: np.random.Generator
) -> MetricsBatch:
    rows = len(symbols)
    values = draw.normal(0, 2, (rows, len(METRIC_COLUMNS)))
    for name in ("open_1m", "high_1m", "low_1m", "close_1m"):
        values[:, COLUMN_POSITION[name]] = closes
    return MetricsBatch(
        symbols=tuple(symbols),
        symbol_index=np.arange(rows, dtype=np.int32),
        open_time_ms=np.full(rows, now_ms // MINUTE_MS * MINUTE_MS),
        closed=np.zeros(rows, np.bool_),
        event_ts_ms=np.full(rows, now_ms),
        ingest_ts_ms=np.full(rows, now_ms),
        values=values,
        columns=METRIC_COLUMNS,
    )


def _candles(symbol: str, now_ms: int) -> CandleBatch:
    """Return a day of minutes."""
    close = 100 + np.cumsum(np.random.default_rng(1).normal(0, 0.1, _MINUTES))
    open_time_ms = (now_ms // MINUTE_MS - _MINUTES + np.arange(_MINUTES)) * MINUTE_MS
    return CandleBatch(
        symbols=(symbol,),
        symbol_index=np.zeros(_MINUTES, np.int32),
        open_time_ms=open_time_ms,
        open=close,
        high=close + 0.1,
        low=close - 0.1,
        close=close,
        volume=np.full(_MINUTES, 10.0),
        quote_volume=close * 10,
        trades=np.full(_MINUTES, 5),
        taker_buy_volume=np.full(_MINUTES, np.nan),
        taker_buy_quote_volume=np.full(_MINUTES, np.nan),
        quote_estimated=np.zeros(_MINUTES, np.bool_),
        closed=np.ones(_MINUTES, np.bool_),
        event_ts_ms=open_time_ms + MINUTE_MS,
        ingest_ts_ms=open_time_ms + MINUTE_MS,
    )


async def _prepare(settings: Settings, symbols: Sequence[str]) -> None:
    await ensure_topics(settings.kafka())
    await asyncio.to_thread(migrate, settings.postgres())
    async with await open_pool(settings.postgres()) as pool, pool.connection() as connection:
        await write_candles(connection, _candles(symbols[0], SystemClock().now_ms()))


async def _feed(settings: Settings, symbols: Sequence[str]) -> None:
    """Send new values of every symbol four times a second, until cancelled."""
    draw, clock = np.random.default_rng(2), SystemClock()
    shards = [
        [symbol for symbol in symbols if shard_of(symbol, settings.partitions) == shard]
        for shard in range(settings.partitions)
    ]
    async with kafka_producer(settings.kafka()) as producer:
        topic = Topics.of(settings.names()).metrics
        while True:
            for shard, members in enumerate(shards):
                closes = 100 + draw.normal(0, 0.2, len(members))
                frame = encode_metrics(_values(members, closes, clock.now_ms(), draw), FrameInfo({}))
                await producer.send_and_wait(topic, frame, partition=shard)
            await asyncio.sleep(_EVERY_S)


async def _heap_mb(devtools: CDPSession) -> float:
    await devtools.send("HeapProfiler.collectGarbage")
    return float((await _metrics(devtools))["JSHeapUsedSize"]) / 1e6


async def _metrics(devtools: CDPSession) -> dict[str, float]:
    found = await devtools.send("Performance.getMetrics")
    return {one["name"]: one["value"] for one in found["metrics"]}


async def _measure(browser: Browser, url: str, view: str, seconds: float, heaps: int) -> Figures:
    """heaps: how often the heap is measured after the beginning, at equal intervals."""
    page = await browser.new_page(viewport=_DESK)
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
    await page.goto(f"{url}#/{view}")
    await page.locator(".grid-rows > [role=row], .chart canvas").first.wait_for()
    await page.wait_for_timeout(5_000)
    first_paint_ms = float(await page.evaluate(_FIRST_PAINT))
    await page.evaluate(_OBSERVE)
    await page.evaluate("() => { window.longTasks.length = 0; }")
    heap = [await _heap_mb(devtools)]
    before = after = await _metrics(devtools)
    for _ in range(heaps):
        await page.wait_for_timeout(seconds * 1000 / heaps)
        after = await _metrics(devtools)
        heap.append(await _heap_mb(devtools))
    tasks = await page.evaluate("window.longTasks")
    figures = Figures(
        view.partition("?")[0],
        first_paint_ms,
        100 * (after["TaskDuration"] - before["TaskDuration"]) / (after["Timestamp"] - before["Timestamp"]),
        max(tasks, default=0.0),
        float(await page.evaluate("window.shifts")),
        tuple(heap),
    )
    await page.close()
    return figures


async def _screenshots(browser: Browser, url: str, views: Sequence[str]) -> None:
    _SHOTS.mkdir(exist_ok=True)
    for size_name, size in (("desk", _DESK), ("phone", _PHONE)):
        for theme in ("light", "dark"):
            page: Page = await browser.new_page(viewport=size, color_scheme=theme, has_touch=size is _PHONE)
            for view in views:
                await page.goto(f"{url}#/{view}")
                await page.wait_for_timeout(2_500)
                name = view.partition("?")[0].partition("/")[0]
                await page.screenshot(path=_SHOTS / f"{name}-{size_name}-{theme}.png")
            await page.close()


def bundle_bytes() -> tuple[int, int]:
    """Return the compressed bytes of (all scripts and styles, the ones that the first view needs)."""
    parts = [file for file in _BUILT.iterdir() if file.name.endswith((".js.gz", ".css.gz"))]
    index = (_BUILT / "index.html").read_text()
    return (
        sum(file.stat().st_size for file in parts),
        sum(file.stat().st_size for file in parts if file.name.removesuffix(".gz") in index),
    )


async def _run(settings: Settings, given: argparse.Namespace) -> list[Figures]:
    symbols = [f"C{number:04d}USDT" for number in range(given.symbols)]
    await _prepare(settings, symbols)
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        raise SystemExit("there is no Chromium (Debian: chromium)")
    async with serve_sidecar(settings, SystemClock(), RoleRegistry("sidecar")) as sidecar:
        feeding = asyncio.create_task(_feed(settings, symbols))
        url = f"http://127.0.0.1:{sidecar.port}/"
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            chart = f"chart/{symbols[0]}?interval=1m"
            heaps = _HEAPS if given.together else 1
            views = [_measure(browser, url, view, given.seconds, heaps) for view in ("symbols", chart)]
            figures = await asyncio.gather(*views) if given.together else [await view for view in views]
            await _screenshots(browser, url, ("symbols", chart, "alerts", "screens", "rules", "account"))
            await browser.close()
        feeding.cancel()
        with suppress(asyncio.CancelledError):
            await feeding
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="for each view; 1800 shows whether the heap grows"
    )
    parser.add_argument(
        "--together",
        action="store_true",
        help=f"the views at once, and the heap {_HEAPS} times: what they take of the processors includes each other",
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, EmbeddedStack.start(Path(directory)) as stack:
        urls = {f"{server}_url": url for server, url in stack.urls.items()}
        ports = {
            "sidecar_port": 0,
            "sidecar_metrics_port": 0,
            "rate_limit_per_minute": 0,
            "log_level": "warning",
        }
        settings = Settings.load({}, **urls, **ports, namespace="page", data_dir=Path(directory) / "data")
        configure_logging(settings.log_level, settings.log_format)
        figures = asyncio.run(_run(settings, given))
    whole, first = bundle_bytes()
    print(
        f"{given.symbols} symbols x {1 / _EVERY_S:g}/s, {given.seconds:g} s a view; load average",
        os.getloadavg(),
    )
    print(f"bundle {whole / 1000:.0f} KB compressed, of which the first paint needs {first / 1000:.0f} KB")
    print("| view | first paint ms | main thread busy | longest task ms | layout shift | heap MB |")
    print("|---|--:|--:|--:|--:|--:|")
    for one in figures:
        print(one.row())


if __name__ == "__main__":
    main()
