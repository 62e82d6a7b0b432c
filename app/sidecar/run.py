"""The sidecar as a process: starts its parts, opens its ports, and ends both in good order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import structlog
from aiohttp import web
from redis.asyncio import Redis

from app.clock import Clock
from app.errors import ScreenerError
from app.process.health.loop_probe import loop_probe
from app.process.health.process import describe_process
from app.process.quarantine import attempts_of
from app.process.tasks import ended, kept_running
from app.settings import Settings
from app.sidecar.http.app import QuietRunner, create_app
from app.sidecar.legacy.app import create_legacy_app
from app.sidecar.legacy.subjects import SubjectPublisher, subjects
from app.sidecar.state.limits import SidecarLimits
from app.sidecar.state.parts import Parts, build_parts
from app.telemetry import SidecarMetrics, pipeline_metrics, runtime_metrics, sidecar_metrics
from app.telemetry.bounded_http import BoundedHandler
from app.telemetry.catalogue import RoleRegistry
from app.telemetry.health_server import listen, serve_health

_SHUTDOWN_GRACE_S: Final = 5.0

log = structlog.get_logger("sidecar")


class Sidecar:
    """A running sidecar: the ports it listens on, its connections, and its parts."""

    def __init__(
        self,
        parts: Parts,
        runner: QuietRunner,
        port: int,
        metrics_port: int,
        legacy_port: int | None,
        publishers: Sequence[SubjectPublisher],
        tasks: list[asyncio.Task[None]],
    ) -> None:
        """legacy_port: None if it is off."""
        self.parts = parts
        self.legacy_port = legacy_port
        self.publishers = publishers
        self._runner = runner
        self.port = port
        self.metrics_port = metrics_port
        self._tasks = tasks

    @property
    def connections(self) -> list[BoundedHandler]:
        server = self._runner.server
        return (
            [] if server is None else [one for one in server.connections if isinstance(one, BoundedHandler)]
        )

    async def run_until(self, stop: asyncio.Event) -> None:
        """Wait until `stop` is set. Raises the error that ended a part that should run for ever, or ScreenerError."""
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
    registry: RoleRegistry,
    limits: SidecarLimits | None = None,
) -> AsyncIterator[Sidecar]:
    """Serve while the context lasts; at its end, clients are told and closed before the ports are.

    The servers may be down, at the start or later: the sidecar retries, and says so in its health. Raises PortTaken,
    and SettingsError when a server has no URL.
    """
    limits = limits or SidecarLimits.of(settings)
    async with AsyncExitStack() as cleanup:
        redis = Redis.from_url(settings.server_urls().redis, socket_timeout=limits.dependency_timeout_s)
        cleanup.push_async_callback(redis.aclose)
        parts = build_parts(settings, clock, redis, limits, registry)
        parts.attempts.open()
        cleanup.callback(parts.attempts.close)
        metrics, gateway = runtime_metrics(registry.process), sidecar_metrics(registry)
        describe_process(metrics, lambda: parts.health.ready, settings.data_dir)
        parts.health.probe = await cleanup.enter_async_context(loop_probe(metrics))
        publishers = _publishers(settings, registry) if settings.legacy_nats else ()
        tasks = [
            asyncio.create_task(kept_running(name, run, registry.process), name=name)
            for name, run in (
                ("database", parts.database.run),
                ("rule trials", parts.trials.run),
                ("rate limit", parts.counts.run),
                ("health", parts.health.run),
                ("backlogs", parts.backlogs.run),
                ("rule states", parts.rule_states.run),
                ("websocket", parts.clients.watch),
                *((f"send {channel.name}", channel.run) for channel in parts.channels),
                *((f"follow {follower.topic}", follower.run) for follower in parts.followers),
                *((f"publish {one.subject.name}", one.run) for one in publishers),
            )
        ]
        cleanup.push_async_callback(ended, *tasks)
        runner = _runner(create_app(parts), parts, limits, gateway)
        cleanup.push_async_callback(runner.cleanup)
        port = await listen(runner, settings.bind_host, settings.sidecar_port, "SCREENER_SIDECAR_PORT")
        legacy_port = None
        if settings.legacy_port is not None:
            legacy = _runner(create_legacy_app(parts), parts, limits, gateway)
            cleanup.push_async_callback(legacy.cleanup)
            legacy_port = await listen(
                legacy, settings.bind_host, settings.legacy_port, "SCREENER_LEGACY_PORT"
            )
        metrics_port = await cleanup.enter_async_context(
            serve_health(
                settings.bind_host,
                settings.sidecar_metrics_port,
                live=lambda: parts.health.live,
                ready=lambda: parts.health.ready,
                report=parts.health.report,
                setting="SCREENER_SIDECAR_METRICS_PORT",
                registry=registry,
            )
        )
        log.info("serving", url=f"http://{settings.bind_host}:{port}/")
        if legacy_port is not None:
            log.info("serving", url=f"http://{settings.bind_host}:{legacy_port}/api/alerts")
        yield Sidecar(parts, runner, port, metrics_port, legacy_port, publishers, tasks)


def _runner(
    app: web.Application, parts: Parts, limits: SidecarLimits, gateway: SidecarMetrics
) -> QuietRunner:
    """Return a runner that serves an application within the limits of connections, which each port has for itself."""
    return QuietRunner(
        app,
        limits.http,
        counted=parts.addresses.counted,
        told=lambda why: gateway.connections_cut.labels(why).inc(),
        shutdown_timeout=_SHUTDOWN_GRACE_S,
    )


def _publishers(settings: Settings, registry: RoleRegistry) -> tuple[SubjectPublisher, ...]:
    pipeline, gateway = pipeline_metrics(registry), sidecar_metrics(registry)
    attempts = attempts_of(settings.data_dir, settings.names(), pipeline)
    return tuple(
        SubjectPublisher(
            subject, settings.kafka(), settings.nats(), attempts(subject.stage), pipeline, gateway
        )
        for subject in subjects(settings.names(), settings.alert_backfilled_after_s * 1000)
    )


async def run_sidecar(
    settings: Settings,
    clock: Clock,
    registry: RoleRegistry,
    stop: asyncio.Event,
    on_ready: Callable[[bool], None] | None = None,
) -> None:
    """Run the sidecar as a process until `stop` is set; call `on_ready` once it listens."""
    async with serve_sidecar(settings, clock, registry) as sidecar:
        if on_ready:
            on_ready(True)
        await sidecar.run_until(stop)
