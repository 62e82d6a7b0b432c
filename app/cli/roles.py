"""`screener run ROLE`: one role in this process. `screener migrate`: the database schema."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack

import click
import structlog
import uvloop

from app.clock import SystemClock
from app.database.migrate import migrate
from app.health.process import process_health, serve_roles
from app.observe import configure_logging
from app.pauses import avoid_pauses
from app.pipeline import SERVICE_ROLES, Service
from app.role_health import dependencies_of
from app.settings import Settings
from app.supervisor import WORKER_ROLES, role_argv
from app.tracing import configure_tracing, end_tracing

HEALTH_PORTS = {
    "feed": "feed_port",
    "bridge": "bridge_port",
    "sinks": "sinks_port",
    "webhooks": "webhooks_port",
}
"""Service roles without an HTTP server of their own -> the setting of their health port."""
_WITHOUT_SERVERS = ("exchange",)
_NICENESS = {"sinks": 10}
"""The database may wait where alerts must not."""


@click.command("run")
@click.argument("role", type=click.Choice([*SERVICE_ROLES, *WORKER_ROLES]))
def run(role: str) -> None:
    """Run one ROLE of the pipeline against servers given by URL, until SIGTERM or Ctrl-C."""
    settings = Settings.load()
    if role not in _WITHOUT_SERVERS:
        settings.server_urls()
    if role in WORKER_ROLES:
        os.execv(sys.executable, role_argv(role))  # noqa: S606  # reason: our own command line, no shell
    configure_logging(settings.log_level, settings.log_format)
    uvloop.run(_serve(role, SERVICE_ROLES[role], settings))


async def _serve(role: str, service: Service, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    avoid_pauses()
    os.nice(_NICENESS.get(role, 0))
    ready = False

    def on_ready(state: bool) -> None:
        nonlocal ready
        ready = state

    def is_ready() -> bool:
        return ready and not stop.is_set()

    async with AsyncExitStack() as exits:
        port = HEALTH_PORTS.get(role)
        if port is not None:
            health = await exits.enter_async_context(
                process_health(dependencies_of((role,), settings), is_ready, settings.data_dir)
            )
            ports = {role: (f"SCREENER_{port.upper()}", getattr(settings, port))}
            await exits.enter_async_context(serve_roles(health, settings.bind_host, ports))
        configure_tracing(settings, role)
        exits.push_async_callback(asyncio.to_thread, end_tracing)
        await service(settings, SystemClock(), stop, on_ready)
    structlog.get_logger(role).info("role_stopped", role=role)


@click.command("migrate")
def migrate_command() -> None:
    """Bring the database's schema to this version."""
    applied = migrate(Settings.load())
    click.echo("\n".join(applied) if applied else "the schema is up to date")
