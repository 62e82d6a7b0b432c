"""The simulated exchange as a process: one port for REST, WebSocket and commands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import structlog
from aiohttp import web

from app.clock import Clock
from app.errors import ScreenerError
from app.local.exchange.exchange import Exchange, SimulatedClock
from app.local.exchange.faults.active import Faults
from app.local.exchange.faults.admin import Admin, counts
from app.local.exchange.faults.minutes import MinuteFaults
from app.local.exchange.faults.schedule import run_schedule
from app.local.exchange.market.market import Market
from app.local.exchange.market.simulated import SimulatedMarket
from app.local.exchange.options import ExchangeOptions
from app.local.exchange.rest import Rest, allow_pages
from app.local.exchange.streams.fanout import Fanout
from app.local.exchange.streams.live import LiveMarket, run_tickers
from app.local.exchange.streams.subscriptions import Subscriptions
from app.local.exchange.streams.websocket import WebSockets
from app.local.exchange.weights import Weights
from app.process.tasks import ended
from app.settings import Settings
from app.telemetry.catalogue import RoleRegistry
from app.telemetry.health_server import listen

_HOUSEKEEPING_S: Final = 0.5
_SHUTDOWN_GRACE_S: Final = 1.0
_LINE_BYTES: Final = 64 * 1024
"""Limit of a request's first line, which may name a thousand streams."""
log = structlog.get_logger("simexchange")


class SimExchange:
    """All parts of one simulated exchange. `port`: where it listens, once it does."""

    def __init__(self, market: Market, clock: Clock, options: ExchangeOptions) -> None:
        self.options = options
        self.port = options.port
        self.tasks: list[asyncio.Task[None]] = []
        self.exchange = Exchange(
            market, SimulatedClock(clock, options.start_ms, options.speed), options.history_days
        )
        self.subscriptions = Subscriptions(self.exchange.listings.index)
        self.fanout = Fanout(self.exchange, self.subscriptions)
        self.faults = Faults(self.exchange, market.seed)
        self.minute_faults = MinuteFaults(len(market.contracts), self.fanout.send_minute, self.faults.count)
        self.websockets = WebSockets(self.subscriptions, options, self.faults.refuses_connections)
        self.faults.attach(self.minute_faults, self.websockets)
        self.weights = Weights(clock, options.weight_per_minute)
        self.rest = Rest(self.exchange, self.faults, self.weights)
        self.live = LiveMarket(
            self.exchange, self.subscriptions, self.fanout, self.minute_faults, options.updates_per_s
        )

    def application(self) -> web.Application:
        app = web.Application()
        app.on_response_prepare.append(allow_pages)
        app.add_routes(self.rest.routes())
        app.add_routes(Admin(self.faults, self.state).routes())
        for prefix in ("", "/market"):
            app.router.add_get(f"{prefix}/stream", self.websockets.combined)
            app.router.add_get(f"{prefix}/ws", self.websockets.raw)
            app.router.add_get(prefix + "/ws/{streams:.+}", self.websockets.raw)
        return app

    def state(self) -> dict[str, object]:
        exchange = self.exchange
        return {
            "now_ms": exchange.clock.now_ms(),
            "speed": exchange.clock.speed,
            "minute": exchange.minute,
            "contracts": int(exchange.listings.traded(exchange.minute).sum()),
            "connections": [
                {
                    "streams": len(connection.streams),
                    "combined": connection.combined,
                    "age_s": round(time.monotonic() - connection.opened_s, 3),
                    "sent": connection.sent,
                    "waiting_bytes": connection.waiting_bytes,
                    "stalled": connection.stalled,
                }
                for connection in self.websockets.connections
            ],
            "connections_opened": self.websockets.opened,
            "connections_cut_as_slow": self.websockets.cut_as_slow,
            "events_sent": self.fanout.events,
            "rest_requests": self.rest.requests,
            "rest_refused": self.rest.refused,
            "weight_used": self.weights.used(),
            "faults_under_way": self.faults.under_way(),
            **counts(self.faults),
        }

    async def keep_house(self) -> None:
        """Ping the connections, and end connections that are a day old or do not answer."""
        while True:
            now_s, now_ms = time.monotonic(), self.exchange.clock.now_ms()
            for connection in list(self.websockets.connections):
                connection.ping_if_due(now_s, now_ms)
                if now_s >= connection.expires_s:
                    connection.close(1001, "24 hours are over")
                elif now_s - connection.heard_s > self.options.silence_s:
                    connection.close(1008, "no pong")
            await asyncio.sleep(_HOUSEKEEPING_S)


@asynccontextmanager
async def serve_sim_exchange(
    market: Market, clock: Clock, options: ExchangeOptions
) -> AsyncIterator[SimExchange]:
    """Serve while the context lasts. Raises PortTaken."""
    async with AsyncExitStack() as cleanup:
        simulated = SimExchange(market, clock, options)
        cleanup.callback(simulated.exchange.close)
        cleanup.callback(simulated.minute_faults.cancel)
        await simulated.exchange.turn_to(simulated.exchange.minute)
        runner = web.AppRunner(
            simulated.application(),
            access_log=None,
            shutdown_timeout=_SHUTDOWN_GRACE_S,
            max_line_size=_LINE_BYTES,
        )
        cleanup.push_async_callback(runner.cleanup)
        simulated.port = await listen(runner, options.host, options.port, "SCREENER_SIM_EXCHANGE_PORT")
        cleanup.callback(simulated.websockets.close_all)
        tasks = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("live market", simulated.live.run()),
                ("tickers", run_tickers(simulated.exchange, simulated.subscriptions, simulated.fanout)),
                ("housekeeping", simulated.keep_house()),
                ("fault schedule", run_schedule(simulated.faults, options.schedule)),
            )
        ]
        cleanup.push_async_callback(ended, *tasks)
        simulated.tasks = tasks
        log.info("serving", port=simulated.port, contracts=market.first_listed)
        yield simulated


async def run_until_stopped(
    simulated: SimExchange, stop: asyncio.Event, on_ready: Callable[[bool], None] | None
) -> None:
    """Wait until `stop` is set. Raises the error that ended a part that should run for ever."""
    if on_ready:
        on_ready(True)
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopped, *simulated.tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
    for task in done & set(simulated.tasks):
        fault = None if task.cancelled() else task.exception()
        raise fault or ScreenerError(f"the simulated exchange's part {task.get_name()!r} ended by itself")


async def run_sim_exchange(
    settings: Settings,
    clock: Clock,
    _: RoleRegistry,
    stop: asyncio.Event,
    on_ready: Callable[[bool], None] | None = None,
) -> None:
    """Run the `exchange` role, the simulated market of the settings, until `stop` is set. It has no metrics."""
    market = SimulatedMarket(settings.simulated_symbols, settings.simulated_seed)
    async with serve_sim_exchange(market, clock, ExchangeOptions.of(settings)) as simulated:
        await run_until_stopped(simulated, stop, on_ready)
