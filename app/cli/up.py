"""`screener up`: everything on one machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

import aiohttp
import click
from prometheus_client.parser import text_string_to_metric_families
from psycopg import AsyncConnection
from rich.console import Console
from rich.status import Status

from app.database.connection import connection_url
from app.database.migrate import migrate
from app.database.queries import latest_seq
from app.errors import ServerDied
from app.kafka import ensure_topics
from app.observe import configure_logging
from app.orderly_stop import stop_in_order
from app.servers import Faults, started_servers
from app.settings import Settings
from app.stack.ports import require_free_port
from app.supervisor import RoleProcesses

ROLES = ("bridge", "all", "sinks", "webhooks", "sidecar")
PORTS = ("sidecar", "sidecar_metrics", "collector", "calculator", "alerts", "bridge", "sinks", "webhooks")
_READY_TIMEOUT_S = 60.0
_TICK_S = 1.0

Figures = defaultdict[str, float]
"""Prometheus sample name -> sum over its labels."""


@click.command()
@click.option("--symbols", type=click.IntRange(1, 5_000), help="Symbols of the simulated market.")
@click.option("--no-feed", is_flag=True, help="No simulated market: candles come from elsewhere over NATS.")
def up(symbols: int | None, no_feed: bool) -> None:
    """Start everything: servers (those without a URL), workers, database writer, API, a simulated market.

    Prints where to look, then a line of figures; Ctrl-C stops all of it and leaves no process.
    """
    overrides = {} if symbols is None else {"simulated_symbols": symbols}
    settings = Settings.load(**overrides)
    configure_logging("warning", settings.log_format)
    for name in PORTS:
        port = getattr(settings, f"{name}_port")
        advice = f"stop that program, or set SCREENER_{name.upper()}_PORT to a free port"
        require_free_port(port, f"the {name.replace('_', ' ')}", advice, settings.bind_host)
    console = Console()
    roles = ROLES if no_feed else ("feed", *ROLES)
    with (
        console.status("starting servers") as status,
        started_servers(settings, settings.data_dir) as servers,
    ):
        asyncio.run(_Up(servers.settings, servers.faults, servers.started, roles, console, status).run())
    console.print("stopped")


@dataclass(frozen=True, slots=True)
class _Up:
    settings: Settings
    server_faults: Faults
    servers_started: frozenset[str]
    roles: tuple[str, ...]
    console: Console
    status: Status

    async def run(self) -> None:
        """Until SIGINT or SIGTERM. Raises ServerDied when a server ended or a role cannot run."""
        stop = asyncio.Event()
        with _signals(stop):
            async with AsyncExitStack() as exits:
                self.status.update("preparing database and topics")
                await asyncio.to_thread(migrate, self.settings)
                await ensure_topics(self.settings, await self._first_seq())
                running = RoleProcesses(self.settings, self.settings.data_dir / "logs", self.roles)
                exits.push_async_callback(stop_in_order, running, self.settings)
                exits.callback(self.status.update, "stopping")
                running.start()
                tasks = [
                    asyncio.create_task(stop.wait(), name="stop"),
                    asyncio.create_task(running.watch(), name="watch-roles"),
                    asyncio.create_task(self._watch_servers(), name="watch-servers"),
                    asyncio.create_task(self._show(running), name="show"),
                ]
                try:
                    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)

    async def _first_seq(self) -> int:
        """Where alerts are numbered from on a broker of ours, whose topics ended with it: after those stored."""
        if "kafka" not in self.servers_started:
            return 0
        async with await AsyncConnection.connect(connection_url(self.settings)) as connection:
            latest = await latest_seq(connection)
        return 0 if latest is None else latest + 1

    async def _watch_servers(self) -> None:
        while True:
            faults = await asyncio.to_thread(self.server_faults)
            if faults:
                raise ServerDied("\n".join(str(fault) for fault in faults))
            await asyncio.sleep(_TICK_S)

    async def _show(self, running: RoleProcesses) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            self.status.update("starting the pipeline")
            await self._until_ready(session)
            self._announce()
            before = await self._figures(session)
            while True:
                await asyncio.sleep(_TICK_S)
                now = await self._figures(session)
                self.status.update(_line(before, now, running.restarts))
                before = now

    async def _until_ready(self, session: aiohttp.ClientSession) -> None:
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                for name in ("sidecar", "collector"):
                    while not await self._ready(session, name):
                        await asyncio.sleep(0.1)
        except TimeoutError:
            raise ServerDied(
                f"the pipeline is not ready after {_READY_TIMEOUT_S:.0f} s; "
                f"see the logs in {self.settings.data_dir / 'logs'}"
            ) from None

    async def _ready(self, session: aiohttp.ClientSession, name: str) -> bool:
        try:
            async with session.get(f"{self._url(name)}/health/ready") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _figures(self, session: aiohttp.ClientSession) -> Figures:
        """Of the worker and the sidecar; a role that is away gives none."""
        totals: Figures = defaultdict(float)
        for name in ("collector", "sidecar"):
            try:
                async with session.get(f"{self._url(name)}/metrics") as answer:
                    text = await answer.text()
            except (aiohttp.ClientError, TimeoutError):
                continue
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    totals[sample.name] += sample.value
        return totals

    def _url(self, name: str) -> str:
        return f"http://{self.settings.bind_host}:{getattr(self.settings, f'{name}_port')}"

    def _announce(self) -> None:
        page = self._url("sidecar")
        self.console.print(f"[bold]The screener is up:[/bold] {page}/")
        self.console.print(
            f"  alerts     {page}/api/alerts   live: {page.replace('http', 'ws', 1)}/ws/alerts"
        )
        self.console.print(f"  metrics    {page}/api/metrics/BTCUSDT")
        self.console.print(f"  health     {page}/api/health   Prometheus: {page}/metrics")
        self.console.print(f"  logs       {self.settings.data_dir / 'logs'}   Ctrl-C stops everything")


def _line(before: Figures, now: Figures, restarts: int) -> str:
    def rate(name: str) -> str:
        return f"{max(0.0, now[name] - before[name]) / _TICK_S:,.0f}"

    parts = [
        f"{rate('data_collector_candles_received_total')} candles/s",
        f"{rate('metrics_calculator_metrics_calculated_total')} rows/s",
        f"{now['alert_engine_alerts_triggered_total']:,.0f} alerts",
        f"{now['api_gateway_websocket_connections']:,.0f} WebSocket clients",
        f"{now['screener_dead_letters_total']:,.0f} dead letters",
    ]
    if restarts:
        parts.append(f"[red]{restarts} restarts[/red]")
    return " | ".join(parts)


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
