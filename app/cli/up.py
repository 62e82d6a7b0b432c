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
from app.errors import ExchangeError, ServerDied
from app.exchange.reach import check_exchange
from app.kafka import ensure_topics
from app.observe import configure_logging
from app.orderly_stop import stop_in_order
from app.servers import Faults, started_servers
from app.settings import Settings
from app.stack.ports import free_port, require_free_port
from app.supervisor import RoleProcesses

ROLES = ("bridge", "all", "sinks", "webhooks", "sidecar")
PORTS = ("sidecar", "sidecar_metrics", "collector", "calculator", "alerts", "bridge", "sinks", "webhooks")
FEED_PORTS = ("feed", "sim_exchange")
_READY_TIMEOUT_S = 60.0
_TICK_S = 1.0

Figures = defaultdict[str, float]
"""Prometheus sample name -> sum over its labels."""


@click.command()
@click.option(
    "--symbols", type=click.IntRange(1, 5_000), help="How many symbols there are, or are followed live."
)
@click.option(
    "--live", is_flag=True, help="Candles of the real exchange (SCREENER_EXCHANGE), not simulated ones."
)
@click.option("--no-feed", is_flag=True, help="No exchange: candles come from elsewhere over NATS.")
def up(symbols: int | None, live: bool, no_feed: bool) -> None:
    """Start everything: servers (those without a URL), a simulated exchange, feed, workers, database
    writer, webhooks, API.

    Prints where to look, then a line of figures; Ctrl-C stops all of it and leaves no process.
    """
    settings = Settings.load()
    live = live or settings.exchange_rest_url is not None or settings.exchange_ws_url is not None
    configure_logging("warning", settings.log_format)
    console = Console()
    roles: tuple[str, ...] = ROLES
    if live and not no_feed:
        settings = settings.model_copy(update={"exchange_symbols": symbols or settings.exchange_symbols})
        with console.status(f"looking for the exchange {settings.exchange}"):
            _require_exchange(settings)
        roles = ("feed", *ROLES)
    elif not no_feed:
        settings = _simulated(settings, symbols)
        roles = ("exchange", "feed", *ROLES)
    for name in PORTS if no_feed else (*PORTS, *FEED_PORTS[: 1 if live else 2]):
        port = getattr(settings, f"{name}_port")
        advice = f"stop that program, or set SCREENER_{name.upper()}_PORT to a free port"
        require_free_port(port, f"the {name.replace('_', ' ')}", advice, settings.bind_host)
    with (
        console.status("starting servers") as status,
        started_servers(settings, settings.data_dir) as servers,
    ):
        asyncio.run(_Up(servers.settings, servers.faults, servers.started, roles, console, status).run())
    console.print("stopped")


def _simulated(settings: Settings, symbols: int | None) -> Settings:
    """The same, with the feed on the simulated exchange that runs beside it."""
    count = symbols or settings.simulated_symbols
    port = settings.sim_exchange_port or free_port()
    return settings.model_copy(
        update={
            "exchange": "binance",
            "exchange_rest_url": f"http://{settings.bind_host}:{port}",
            "exchange_ws_url": f"ws://{settings.bind_host}:{port}/market/stream",
            "sim_exchange_port": port,
            "simulated_symbols": count,
            # those listed while it runs, too
            "exchange_symbols": min(5_000, count + 100),
        }
    )


def _require_exchange(settings: Settings) -> None:
    try:
        asyncio.run(check_exchange(settings))
    except ExchangeError as error:
        raise type(error)(
            f"{error}\ncheck the network and SCREENER_EXCHANGE_REST_URL / _WS_URL; "
            "`screener up` without --live runs on a simulated exchange"
        ) from error


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
                self.status.update(_line(before, now, running.restarts, with_feed="feed" in self.roles))
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
        """Of the worker, the sidecar and the feed; a role that is away gives none."""
        totals: Figures = defaultdict(float)
        for name in ("collector", "sidecar", *({"feed"} & {*self.roles})):
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
        if "exchange" in self.roles:
            self.console.print(
                f"  exchange   simulated, {self.settings.exchange_rest_url}   with the real one: screener up --live"
            )
        elif "feed" in self.roles:
            self.console.print(f"  exchange   {self.settings.exchange}, live")
        self.console.print(f"  logs       {self.settings.data_dir / 'logs'}   Ctrl-C stops everything")


def _line(before: Figures, now: Figures, restarts: int, *, with_feed: bool) -> str:
    def rate(name: str) -> str:
        return f"{max(0.0, now[name] - before[name]) / _TICK_S:,.0f}"

    parts = [
        f"{rate('data_collector_candles_received_total')} candles/s",
        f"{rate('metrics_calculator_metrics_calculated_total')} rows/s",
        f"{now['alert_engine_alerts_triggered_total']:,.0f} alerts",
        f"{now['api_gateway_websocket_connections']:,.0f} WebSocket clients",
        f"{now['screener_dead_letters_total']:,.0f} dead letters",
    ]
    if with_feed and not now["data_collector_websocket_connections"]:
        parts.append("[red]no connection to the exchange, see feed.log[/red]")
    if now["screener_feed_owed_minutes"]:
        parts.append(f"{now['screener_feed_owed_minutes']:,.0f} minutes to fetch")
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
