"""What each role takes of a machine: `python -m benchmarks.footprint`, for the requests and limits of the chart.

A simulated market of SYMBOLS with UPDATES forming updates a second each runs through every role in a process of its
own, as in a cluster, on the embedded servers. First a day of history goes in at once (the most memory that a role
takes), then live updates for SECONDS, during which CPU time is counted. Then each stage is killed and started again:
how long until it is ready (partitions assigned, tables recovered from the changelogs)? Memory is the resident set, its
highest value seen twice a second; what two processes share of libraries is counted in both.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import defaultdict
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil
import uvloop
from app.ingress.simulated import SimulatedMarket

from app.candles.batch import MINUTE_MS
from app.clock import SystemClock
from app.database.migrate import migrate
from app.ingress.publish import CandlePublisher, candle_publisher
from app.ingress.pull import connect
from app.kafka import ensure_topics
from app.observe import configure_logging
from app.replay.drain import nats_drained
from app.settings import Settings
from app.stack.embedded import EmbeddedStack
from app.stack.ports import free_port
from app.supervisor import RoleProcesses
from benchmarks.measure import CpuMeter

STAGES = ("collector", "calculator", "alerts")
ROLES = (*STAGES, "bridge", "sinks", "sidecar", "webhooks")
HISTORY_MINUTES = 1440
_SLICE_MINUTES = 20
_READY_TIMEOUT_S = 180.0
_POLL_S = 0.05
_WATCH_EVERY_S = 0.5
_MEBIBYTE = 1024 * 1024


@dataclass(slots=True)
class Footprint:
    """By role: highest memory at the start, and in all; CPU seconds of a second; seconds from death to ready."""

    history_s: float = 0.0
    updates_per_s: float = 0.0
    """As published: less than asked for on a machine that is too busy."""
    idle_bytes: dict[str, int] = field(default_factory=dict)
    peak_bytes: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    cpu_share: dict[str, float] = field(default_factory=dict)
    recovery_s: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Run:
    settings: Settings
    roles: RoleProcesses
    session: aiohttp.ClientSession
    footprint: Footprint

    async def until_ready(self, role: str) -> float:
        """Seconds until the role's readiness page says yes."""
        started_s = time.monotonic()
        url = f"http://127.0.0.1:{getattr(self.settings, f'{role}_port')}/health/ready"
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while True:
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with self.session.get(url) as answer:
                        if answer.status == 200:
                            return time.monotonic() - started_s
                await asyncio.sleep(_POLL_S)

    def processes(self) -> dict[str, psutil.Process]:
        """Those that live: a stage that was killed has none for a moment."""
        found: dict[str, psutil.Process] = {}
        for role, process in self.roles.processes.items():
            if process.pid is not None:
                with suppress(psutil.NoSuchProcess):
                    found[role] = psutil.Process(process.pid)
        return found

    async def watch_memory(self) -> None:
        """Keeps the highest values, until cancelled."""
        while True:
            for role, process in self.processes().items():
                with suppress(psutil.NoSuchProcess):
                    peak = self.footprint.peak_bytes
                    peak[role] = max(peak[role], process.memory_info().rss)
            await asyncio.sleep(_WATCH_EVERY_S)

    async def publish_history(self, market: SimulatedMarket, publisher: CandlePublisher) -> None:
        started_s = time.monotonic()
        for _ in range(HISTORY_MINUTES // _SLICE_MINUTES):
            await publisher.publish(market.history(_SLICE_MINUTES))
        await publisher.flush()
        client = await connect(self.settings, "footprint")
        try:
            await nats_drained(client, self.settings)
        finally:
            await client.close()
        self.footprint.history_s = time.monotonic() - started_s

    async def live(self, market: SimulatedMarket, publisher: CandlePublisher, seconds: float) -> None:
        cpu = CpuMeter()
        cpu.start(self.processes())
        clock, started_s = SystemClock(), time.monotonic()
        published = 0
        pause_s = 1 / self.settings.simulated_updates_per_s
        while (passed_s := time.monotonic() - started_s) < seconds:
            next_s = time.monotonic() + pause_s
            updates = market.step(clock.now_ms())
            await publisher.publish(updates)
            published += len(updates)
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))
        self.footprint.updates_per_s = published / passed_s
        self.footprint.cpu_share = {role: used_s / passed_s for role, used_s in cpu.seconds().items()}

    async def recover(self, role: str) -> None:
        """Kills a role, lets the supervisor start it again, and waits until it is ready."""
        before = self.roles.processes[role].pid
        assert before is not None
        psutil.Process(before).kill()
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while self.roles.processes[role].pid in (before, None):
                await asyncio.sleep(_POLL_S)
        self.footprint.recovery_s[role] = await self.until_ready(role)


async def measure(settings: Settings, seconds: float) -> Footprint:
    footprint = Footprint()
    await asyncio.to_thread(migrate, settings)
    await ensure_topics(settings)
    async with AsyncExitStack() as exits:
        session = await exits.enter_async_context(aiohttp.ClientSession())
        roles = RoleProcesses(settings, settings.data_dir / "logs", ROLES)
        exits.push_async_callback(roles.stop)
        roles.start()
        run = _Run(settings, roles, session, footprint)
        for role in ROLES:
            await run.until_ready(role)
        footprint.idle_bytes = {role: one.memory_info().rss for role, one in run.processes().items()}
        async with asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(run.watch_memory()), tasks.create_task(roles.watch())]
            start_ms = SystemClock().now_ms() - HISTORY_MINUTES * MINUTE_MS
            market = SimulatedMarket(settings.simulated_symbols, settings.simulated_seed, start_ms)
            publisher = await exits.enter_async_context(candle_publisher(settings, "footprint"))
            await run.publish_history(market, publisher)
            await run.live(market, publisher, seconds)
            for role in STAGES:
                await run.recover(role)
            for task in watching:
                task.cancel()
    return footprint


def table(footprint: Footprint) -> str:
    """Markdown."""
    lines = [
        "| role | memory MiB, idle | highest | CPU, % of a core | ready again after s |",
        "|---|--:|--:|--:|--:|",
    ]
    for role in ROLES:
        idle, peak = (bytes_by[role] / _MEBIBYTE for bytes_by in (footprint.idle_bytes, footprint.peak_bytes))
        cpu = 100 * footprint.cpu_share.get(role, 0.0)
        again = f"{footprint.recovery_s[role]:.1f}" if role in footprint.recovery_s else ""
        lines.append(f"| {role} | {idle:.0f} | {peak:.0f} | {cpu:.1f} | {again} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--updates", type=float, default=4.0, help="forming updates a symbol and second")
    parser.add_argument("--seconds", type=float, default=120.0)
    arguments = parser.parse_args()
    configure_logging("warning", "console")
    with (
        tempfile.TemporaryDirectory(prefix="screener-footprint-") as directory,
        EmbeddedStack.start(Path(directory)) as stack,
    ):
        urls = {f"{server}_url": url for server, url in stack.urls.items()}
        ports = {f"{role}_port": free_port() for role in ROLES}
        settings = Settings.load(
            {},
            **urls,
            **ports,
            sidecar_metrics_port=0,
            data_dir=directory,
            log_level="warning",
            simulated_symbols=arguments.symbols,
            simulated_updates_per_s=arguments.updates,
        )
        footprint = uvloop.run(measure(settings, arguments.seconds))
    rate = f"{footprint.updates_per_s:,.0f} updates/s for {arguments.seconds:.0f} s"
    print(
        f"{arguments.symbols:,} symbols, {rate}; a day of history taken in within {footprint.history_s:.0f} s\n"
    )
    print(table(footprint))


if __name__ == "__main__":
    main()
