"""The memory and CPU time of each role: `python -m benchmarks.footprint`, for the requests and limits of the chart.

The simulated exchange has SYMBOLS symbols with UPDATES forming updates a second each. Every role runs in a process of
its own, as in a cluster, on the embedded servers. First the feed fetches the day before, which goes through in one
burst (the peak of a role's memory). Then live updates follow for SECONDS, during which CPU time is counted. Then each
stage is killed and started again, to measure the time until it is ready (partitions assigned, tables recovered from
the changelogs). Memory is the highest resident set, sampled twice a second; libraries that two processes share count
in both.
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
from prometheus_client.parser import text_string_to_metric_families

from app.database.migrate import migrate
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import free_port
from app.process.children.supervisor import RoleProcesses, role_environ
from app.process.drain import barrier_passed, send_barrier
from app.settings import Settings
from app.telemetry.catalogue import ROLE_PORTS
from app.telemetry.log_output import configure_logging
from app.wire.barrier import BarrierReports
from app.wire.kafka import ensure_topics, kafka_producer
from app.wire.redis import connect_redis
from benchmarks.measure import CpuMeter

STAGES = ("collector", "calculator", "alerts")
ROLES = tuple(ROLE_PORTS)
_READY_TIMEOUT_S = 180.0
_HISTORY_TIMEOUT_S = 900.0
_HISTORY_MINUTES = 1440
_RECEIVED = "data_collector_candles_received_total"
_POLL_S = 0.05
_WATCH_EVERY_S = 0.5
_MEBIBYTE = 1024 * 1024


@dataclass(slots=True)
class Footprint:
    """idle_bytes: memory of each role once all were ready. peak_bytes: its highest memory. cpu_share: its CPU seconds
    per second. recovery_s: seconds from its restart until it was ready. history_s: seconds until the day before had
    passed all stages."""

    history_s: float = 0.0
    updates_per_s: float = 0.0
    """Counted at the collector: fewer than requested on a machine that is too busy."""
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
        """Wait until the role's readiness page says yes; return the seconds."""
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
        """Return the live processes: a killed stage has none for a moment."""
        found: dict[str, psutil.Process] = {}
        for role, process in self.roles.processes.items():
            if process.pid is not None:
                with suppress(psutil.NoSuchProcess):
                    found[role] = psutil.Process(process.pid)
        return found

    async def watch_memory(self) -> None:
        """Record the highest values, until cancelled."""
        while True:
            for role, process in self.processes().items():
                with suppress(psutil.NoSuchProcess):
                    peak = self.footprint.peak_bytes
                    peak[role] = max(peak[role], process.memory_info().rss)
            await asyncio.sleep(_WATCH_EVERY_S)

    async def take_in_history(self) -> None:
        """Wait until every stage and the database have the day before."""
        started_s = time.monotonic()
        expected = self.settings.exchange_symbols * _HISTORY_MINUTES
        async with asyncio.timeout(_HISTORY_TIMEOUT_S):
            while await self.received() < expected:
                await asyncio.sleep(_WATCH_EVERY_S)
            redis = connect_redis(self.settings.server_urls().redis)
            try:
                async with kafka_producer(self.settings.kafka()) as producer:
                    await send_barrier(producer, self.settings.kafka(), "history")
                    await barrier_passed(
                        BarrierReports(redis, self.settings.names()), self.settings.partitions, "history"
                    )
            finally:
                await redis.aclose()
        self.footprint.history_s = time.monotonic() - started_s

    async def received(self) -> float:
        """Return how many candles the collector has read."""
        async with self.session.get(f"http://127.0.0.1:{self.settings.collector_port}/metrics") as answer:
            page = await answer.text()
        families = text_string_to_metric_families(page)
        return sum(one.value for family in families for one in family.samples if one.name == _RECEIVED)

    async def live(self, seconds: float) -> None:
        cpu = CpuMeter()
        cpu.start(self.processes())
        before, started_s = await self.received(), time.monotonic()
        await asyncio.sleep(seconds)
        passed_s = time.monotonic() - started_s
        self.footprint.updates_per_s = (await self.received() - before) / passed_s
        self.footprint.cpu_share = {role: used_s / passed_s for role, used_s in cpu.seconds().items()}

    async def recover(self, role: str) -> None:
        """Kill a role, let the supervisor start it again, and wait until it is ready."""
        before = self.roles.processes[role].pid
        assert before is not None
        psutil.Process(before).kill()
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while self.roles.processes[role].pid in (before, None):
                await asyncio.sleep(_POLL_S)
        self.footprint.recovery_s[role] = await self.until_ready(role)


async def measure(settings: Settings, seconds: float) -> Footprint:
    footprint = Footprint()
    await asyncio.to_thread(migrate, settings.postgres())
    await ensure_topics(settings.kafka())
    async with AsyncExitStack() as exits:
        session = await exits.enter_async_context(aiohttp.ClientSession())
        roles = RoleProcesses(role_environ(settings), settings.data_dir / "logs", ("exchange", *ROLES))
        exits.push_async_callback(roles.stop)
        roles.start()
        run = _Run(settings, roles, session, footprint)
        # the feed is ready only after its history, which `take_in_history` waits for
        for role in ROLES:
            if role != "feed":
                await run.until_ready(role)
        footprint.idle_bytes = {role: one.memory_info().rss for role, one in run.processes().items()}
        async with asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(run.watch_memory()), tasks.create_task(roles.watch())]
            await run.take_in_history()
            await run.live(seconds)
            for role in STAGES:
                await run.recover(role)
            for task in watching:
                task.cancel()
    return footprint


def table(footprint: Footprint) -> str:
    """Return the figures as Markdown."""
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
        ports = {f"{role}_port": free_port() for role in (*ROLES, "sim_exchange")}
        exchange = f"127.0.0.1:{ports['sim_exchange_port']}"
        settings = Settings.load(
            {},
            **urls,
            **ports,
            sidecar_metrics_port=0,
            exchange_rest_url=f"http://{exchange}",
            exchange_ws_url=f"ws://{exchange}/market/stream",
            exchange_symbols=arguments.symbols,
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
