"""`screener up`: everything on one machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from app.cli.server_watch import ServerWatch, first_seq
from app.cli.servers import places_line, urls_of
from app.database.migrate import migrate_in_thread
from app.errors import ExchangeError, ServerDied
from app.feed.exchanges.answers import advice_for
from app.feed.exchanges.reachability import check_exchange
from app.feed.exchanges.venues import ExchangeAccess, exchange_access
from app.local.run_servers import started_servers
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import free_port, require_free_port
from app.local.servers.running import EXCHANGE_URLS, tell_urls
from app.process.children.supervisor import RoleProcesses, role_environ
from app.process.drain import stop_in_order
from app.process.interrupts import interruptible, stop_signals, unless_stopped
from app.process.private_files import make_private, token_secret_in
from app.process.tasks import ended
from app.settings import Settings
from app.telemetry.log_output import configure_logging
from app.wire.kafka import ensure_topics

ROLES = ("bridge", "all", "market", "sinks", "webhooks", "sidecar")
PORTS = (
    "sidecar",
    "sidecar_metrics",
    "collector",
    "calculator",
    "alerts",
    "market",
    "bridge",
    "sinks",
    "webhooks",
)
FEED_PORTS = ("feed", "sim_exchange")
_AWAITED = ("bridge", "collector", "market", "sinks", "webhooks", "sidecar")
"""Roles that must be ready before anything is announced; the three stages are one worker."""
_SHOWN = ("collector", "calculator", "alerts", "market", "bridge", "sinks", "webhooks", "sidecar")
"""Each shows the metrics of its own role, so that sums count nothing twice."""
_SILENT_S = 120.0
"""A start without progress for this long is given up."""
_START_LIMIT_S = 1_800.0
_LOOK_S = 0.2
_TICK_S = 1.0

Figures = defaultdict[str, float]
"""Prometheus sample name -> sum over its labels."""


def up(symbols: int | None, live: bool, no_feed: bool) -> None:
    settings = Settings.load()
    live = live or settings.exchange_rest_url is not None or settings.exchange_ws_url is not None
    configure_logging("warning", settings.log_format)
    console = Console()
    roles: tuple[str, ...] = ROLES
    if live and not no_feed:
        settings = settings.model_copy(update={"exchange_symbols": symbols or settings.exchange_symbols})
        with console.status(f"looking for the exchange {settings.exchange}"):
            _require_exchange(
                exchange_access(settings.exchange, settings.exchange_rest_url, settings.exchange_ws_url)
            )
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
        complete = _signing(servers.settings)
        if servers.stack is not None and "exchange" in roles:
            urls = {name: getattr(complete, f"{name}_url") for name in EXCHANGE_URLS}
            tell_urls(settings.data_dir, {**servers.stack.urls, **urls})
        asyncio.run(_Up(complete, servers.stack, roles, console, status).run())
    console.print("stopped")


def _signing(settings: Settings) -> Settings:
    """Return the settings; if they have no secret for tokens, with the secret of this data directory."""
    if settings.jwt_secret is not None or settings.jwt_jwks_url is not None:
        return settings
    make_private(settings.data_dir)
    return settings.model_copy(update={"jwt_secret": SecretStr(token_secret_in(settings.data_dir))})


def _simulated(settings: Settings, symbols: int | None) -> Settings:
    """Return the settings, changed so that the feed follows a simulated exchange on this machine."""
    count = symbols or settings.simulated_symbols
    port = settings.sim_exchange_port or free_port()
    return settings.model_copy(
        update={
            "exchange": "binance",
            "exchange_rest_url": f"http://{settings.bind_host}:{port}",
            "exchange_ws_url": f"ws://{settings.bind_host}:{port}/market/stream",
            "sim_exchange_port": port,
            "simulated_symbols": count,
            # with room for symbols listed while it runs
            "exchange_symbols": min(5_000, count + 100),
        }
    )


def _require_exchange(exchange: ExchangeAccess) -> None:
    try:
        asyncio.run(interruptible(check_exchange(exchange)))
    except ExchangeError as error:
        raise type(error)(
            f"{error}\n{advice_for(error)}; `screener up` without --live runs on a simulated exchange"
        ) from error


@dataclass(frozen=True, slots=True)
class _Up:
    settings: Settings
    stack: EmbeddedStack | None
    roles: tuple[str, ...]
    console: Console
    status: Status

    async def run(self) -> None:
        """Run until SIGINT or SIGTERM. Raises ServerDied when a server ended or a role cannot run."""
        with stop_signals() as stop:
            async with AsyncExitStack() as exits:
                self.status.update("preparing database and topics")
                await unless_stopped(stop, self._prepare())
                running = RoleProcesses(
                    role_environ(self.settings), self.settings.data_dir / "logs", self.roles
                )
                exits.push_async_callback(stop_in_order, running, self.settings.servers())
                exits.callback(self.status.update, "stopping")
                running.start()
                servers = self._server_watch(running)
                tasks = [
                    asyncio.create_task(stop.wait(), name="stop"),
                    asyncio.create_task(running.watch(), name="watch-roles"),
                    asyncio.create_task(self._show(running, servers), name="show"),
                ]
                if servers:
                    tasks.append(asyncio.create_task(servers.watch(), name="watch-servers"))
                try:
                    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
                finally:
                    await ended(*tasks)

    async def _prepare(self) -> None:
        await migrate_in_thread(self.settings.postgres())
        await ensure_topics(self.settings.kafka(), await self._first_seq())

    def _server_watch(self, roles: RoleProcesses) -> ServerWatch | None:
        """Return the watch over servers that we started; None if all servers were given."""
        if self.stack is None:
            return None
        return ServerWatch(self.settings.servers(), self.settings.alert_mode, self.stack, roles)

    async def _first_seq(self) -> int:
        """Return the first alert number for new topics: the topics of our own broker are lost when it stops."""
        ours = self.stack is not None and "kafka" in self.stack.processes
        return await first_seq(self.settings.postgres()) if ours else 0

    async def _show(self, running: RoleProcesses, servers: ServerWatch | None) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            await self._until_ready(session, running)
            self._announce()
            loop = asyncio.get_running_loop()
            before, before_s = await self._figures(session), loop.time()
            while True:
                await asyncio.sleep(_TICK_S)
                now, now_s = await self._figures(session), loop.time()
                restarts = running.restarts + (servers.restarts if servers else 0)
                line = _line(before, now, now_s - before_s, restarts, with_feed="feed" in self.roles)
                away = ", ".join(sorted(servers.away)) if servers else ""
                self.status.update(f"{line} | [red]restarting {away}[/red]" if away else line)
                before, before_s = now, now_s

    async def _until_ready(self, session: aiohttp.ClientSession, running: RoleProcesses) -> None:
        """Wait as long as there is progress, on slow machines too, and show the pending parts."""
        loop = asyncio.get_running_loop()
        began_s = moved_s = loop.time()
        seen: object = None
        while waiting := [name for name in _AWAITED if not await self._ready(session, name)]:
            now_s = loop.time()
            found = (waiting, running.restarts, running.work_done())
            if found != seen:
                seen, moved_s = found, now_s
            if now_s - moved_s > _SILENT_S or now_s - began_s > _START_LIMIT_S:
                raise ServerDied(
                    f"not ready after {now_s - began_s:.0f} s: {', '.join(waiting)}; "
                    f"see the logs in {self.settings.data_dir / 'logs'}"
                )
            self.status.update(f"waiting for {', '.join(waiting)} ({now_s - began_s:.0f} s)")
            await asyncio.sleep(_LOOK_S)

    async def _ready(self, session: aiohttp.ClientSession, name: str) -> bool:
        try:
            async with session.get(f"{self._url(name)}/health/ready") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _figures(self, session: aiohttp.ClientSession) -> Figures:
        """Return the figures of all roles; a role that is down has none."""
        totals: Figures = defaultdict(float)
        for name in (*_SHOWN, *({"feed"} & {*self.roles})):
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
        # a URL that is broken in two cannot be clicked, nor copied
        say = partial(self.console.print, soft_wrap=True)
        page = self._url("sidecar")
        say(f"[bold]The screener is up:[/bold] {page}/")
        say(f"  alerts     {page}/api/alerts   live: {page.replace('http', 'ws', 1)}/ws/alerts")
        say(f"  metrics    {page}/api/metrics/BTCUSDT")
        say(f"  health     {page}/api/health   Prometheus: {page}/metrics")
        if self.settings.legacy_port is not None:
            say(f"  earlier    {self._url('legacy')}/api/alerts   for clients of the earlier system")
        if "exchange" in self.roles:
            say(
                f"  exchange   simulated, {self.settings.exchange_rest_url}   with the real one: screener up --live"
            )
        elif "feed" in self.roles:
            say(f"  exchange   {self.settings.exchange}, live")
        say(f"  servers    {places_line(urls_of(self.settings))}", highlight=False)
        say("             URLs with their passwords: screener servers --secrets")
        say("  sign in    screener token --role admin   invalid input: screener dead-letters --follow")
        say(f"  logs       {escape(str(self.settings.data_dir / 'logs'))}   Ctrl-C stops everything")


def _line(before: Figures, now: Figures, seconds: float, restarts: int, *, with_feed: bool) -> str:
    def rate(name: str) -> str:
        return f"{max(0.0, now[name] - before[name]) / seconds:,.0f}"

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
