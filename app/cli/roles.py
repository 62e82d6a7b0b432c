"""`screener run ROLE`: one role in this process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

import structlog
import uvloop

from app.clock import Clock, SystemClock
from app.process.children.supervisor import WORKER_ROLES, role_argv
from app.process.health.process import RolePages, process_health, serve_roles
from app.process.health.signs import SignsOfLife
from app.process.interrupts import stop_signals
from app.process.runtime_tuning import avoid_pauses, imported
from app.role_health import dependencies_of
from app.settings import Settings
from app.telemetry.catalogue import RoleRegistry
from app.telemetry.log_output import configure_logging
from app.telemetry.tracing import configure_tracing, end_tracing

Service = Callable[
    [Settings, Clock, RoleRegistry, asyncio.Event, Callable[[bool], None] | None], Awaitable[None]
]
"""Runs a role until the event is set, and tells when it is ready and when it is not. The registry is the role's."""

SERVICE_ROLES: Final = {
    "exchange": "app.local.exchange.server:run_sim_exchange",
    "feed": "app.feed.run:run_feed",
    "bridge": "app.bridge.run:run_bridge",
    "market": "app.market_wide.run:run_market",
    "sinks": "app.sinks.run:run_sinks",
    "webhooks": "app.webhooks.run:run_webhooks",
    "sidecar": "app.sidecar.run:run_sidecar",
}
"""Role -> its `Service`. Only the process of a role imports it: all roles' modules would take twice the time and
memory."""

HEALTH_PORTS = {
    "feed": "feed_port",
    "bridge": "bridge_port",
    "market": "market_port",
    "sinks": "sinks_port",
    "webhooks": "webhooks_port",
}
"""Service roles without an HTTP server of their own -> the setting of their health port."""
_WITHOUT_SERVERS = ("exchange",)
_NICENESS = {"sinks": 10}
"""The database may wait where alerts must not."""


def run(role: str) -> None:
    settings = Settings.load()
    if role not in _WITHOUT_SERVERS:
        settings.server_urls()
    if role in WORKER_ROLES:
        os.execv(sys.executable, role_argv(role))  # noqa: S606  # reason: our own command line, no shell
    configure_logging(settings.log_level, settings.log_format)
    uvloop.run(_serve(role, service_of(role), settings))


def service_of(role: str) -> Service:
    service: Service = imported(*SERVICE_ROLES[role].split(":"))
    return service


async def _serve(role: str, service: Service, settings: Settings) -> None:
    with stop_signals() as stop:
        await _run_until(stop, role, service, settings)
    structlog.get_logger(role).info("role_stopped", role=role)


async def _run_until(stop: asyncio.Event, role: str, service: Service, settings: Settings) -> None:
    avoid_pauses()
    os.nice(_NICENESS.get(role, 0))
    ready = False

    def on_ready(state: bool) -> None:
        nonlocal ready
        ready = state

    def is_ready() -> bool:
        return ready and not stop.is_set()

    registry = RoleRegistry(role)
    async with AsyncExitStack() as exits:
        port = HEALTH_PORTS.get(role)
        if port is not None:
            health = await exits.enter_async_context(
                process_health(
                    dependencies_of((role,), settings.servers()),
                    is_ready,
                    settings.data_dir,
                    SignsOfLife(settings.redis(), (role,), SystemClock()),
                )
            )
            pages = {role: RolePages(f"SCREENER_{port.upper()}", getattr(settings, port), registry)}
            await exits.enter_async_context(serve_roles(health, settings.bind_host, pages))
        configure_tracing(settings.trace_url, settings.trace_ratio, role)
        exits.push_async_callback(asyncio.to_thread, end_tracing)
        await service(settings, SystemClock(), registry, stop, on_ready)
