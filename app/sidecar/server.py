"""The sidecar as a process: the parts running, the ports open, and both ended in good order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import structlog
from prometheus_client import REGISTRY, CollectorRegistry
from redis.asyncio import Redis

from app.clock import Clock
from app.errors import ScreenerError
from app.health.loop_probe import loop_probe
from app.health.process import describe_process
from app.observe import listen, serve_health
from app.settings import Settings
from app.sidecar.app import create_app
from app.sidecar.http_server import QuietRunner
from app.sidecar.limits import SidecarLimits
from app.sidecar.parts import Parts, build_parts
from app.telemetry import runtime_metrics

_SHUTDOWN_GRACE_S: Final = 5.0

log = structlog.get_logger("sidecar")


class Sidecar:
    """A running sidecar: the ports it listens on, and its parts."""

    def __init__(self, parts: Parts, port: int, metrics_port: int, tasks: list[asyncio.Task[None]]) -> None:
        self.parts = parts
        self.port = port
        self.metrics_port = metrics_port
        self._tasks = tasks

    async def run_until(self, stop: asyncio.Event) -> None:
        """Returns when `stop` is set. Raises what ended a part that should run for ever, or ScreenerError."""
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([stopped, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        for task in done & set(self._tasks):
            fault = None if task.cancelled() else task.exception()
            raise fault or ScreenerError(f"the sidecar's part {task.get_name()!r} ended by itself")


@asynccontextmanager
async def serve_sidecar(
    settings: Settings,
    clock: Clock,
    limits: SidecarLimits | None = None,
    registry: CollectorRegistry = REGISTRY,
) -> AsyncIterator[Sidecar]:
    """Serves while the context lasts; at its end, clients are told and closed before the ports are.

    The servers may be away, now or later: it goes on trying, and says so in its health. Raises PortTaken, and
    SettingsError when a server has no URL.
    """
    limits = limits or SidecarLimits.of(settings)
    async with AsyncExitStack() as cleanup:
        redis = Redis.from_url(settings.server_urls().redis, socket_timeout=limits.dependency_timeout_s)
        cleanup.push_async_callback(redis.aclose)
        parts = build_parts(settings, clock, redis, limits, registry)
        metrics = runtime_metrics(registry)
        describe_process(metrics, lambda: parts.health.ready, settings.data_dir)
        parts.health.probe = await cleanup.enter_async_context(loop_probe(metrics))
        tasks = [
            asyncio.create_task(run(), name=name)
            for name, run in (
                ("database", parts.database.run),
                ("rate limit", parts.counts.run),
                ("health", parts.health.run),
                ("websocket", parts.clients.watch),
                *((f"send {channel.name}", channel.run) for channel in parts.channels),
                *((f"follow {follower.topic}", follower.run) for follower in parts.followers),
            )
        ]
        cleanup.push_async_callback(_end, tasks)
        runner = QuietRunner(create_app(parts), access_log=None, shutdown_timeout=_SHUTDOWN_GRACE_S)
        cleanup.push_async_callback(runner.cleanup)
        port = await listen(runner, settings.bind_host, settings.sidecar_port, "SCREENER_SIDECAR_PORT")
        metrics_port = await cleanup.enter_async_context(
            serve_health(
                settings.bind_host,
                settings.sidecar_metrics_port,
                live=lambda: parts.health.live,
                ready=lambda: parts.health.ready,
                report=parts.health.report,
                setting="SCREENER_SIDECAR_METRICS_PORT",
                registry=registry,
                role="sidecar",
            )
        )
        log.info("serving", url=f"http://{settings.bind_host}:{port}/")
        yield Sidecar(parts, port, metrics_port, tasks)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def run_sidecar(
    settings: Settings, clock: Clock, stop: asyncio.Event, on_ready: Callable[[bool], None] | None = None
) -> None:
    """The sidecar as a process: serves until `stop` is set; calls `on_ready` once it listens."""
    async with serve_sidecar(settings, clock) as sidecar:
        if on_ready:
            on_ready(True)
        await sidecar.run_until(stop)
