"""The pages that every process serves about itself: its health, and its metrics for Prometheus."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from app.errors import PortTaken
from app.telemetry.bounded_http import BoundedRunner, HttpBounds

Report = Callable[[], tuple[Mapping[str, object], bool]]
"""The body of /health, and whether the role can do its work (else the status is 503)."""

_SHUTDOWN_GRACE_S = 1.0


def metrics_response(registry: CollectorRegistry) -> web.Response:
    """Return all metrics of a registry, in Prometheus' text format."""
    body = generate_latest(registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


def state_response(word: str, holds: bool) -> web.Response:
    """Return 200 with `{word: true}`, or 503 with `{word: false}`."""
    return web.Response(
        body=orjson.dumps({word: holds}), status=200 if holds else 503, content_type="application/json"
    )


async def listen(runner: web.AppRunner, host: str, port: int, setting: str) -> int:
    """Start `runner` on host:port and return the port bound (`port` 0: any free one).

    Raises PortTaken, naming `setting`, when something else listens there.
    """
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        if error.errno != errno.EADDRINUSE:
            raise
        raise PortTaken(
            f"port {port} on {host} is taken by another program; stop that, or set {setting} to a free port"
        ) from error
    bound: int = runner.addresses[0][1]
    return bound


@asynccontextmanager
async def serve_health(
    host: str,
    port: int,
    *,
    live: Callable[[], bool],
    ready: Callable[[], bool],
    setting: str,
    registry: CollectorRegistry,
    report: Report | None = None,
) -> AsyncIterator[int]:
    """Serve /metrics, /health/live, /health/ready and, given a report, /health while the context lasts; yield
    the port bound.

    live: False asks the supervisor for a restart. ready: False keeps traffic away for now.
    setting: the variable that sets `port`, for example SCREENER_SINKS_PORT; PortTaken names it.
    registry: the metrics to show.
    """

    async def metrics(_: web.Request) -> web.Response:
        return metrics_response(registry)

    async def liveness(_: web.Request) -> web.Response:
        return state_response("live", live())

    async def readiness(_: web.Request) -> web.Response:
        return state_response("ready", ready())

    async def health(_: web.Request) -> web.Response:
        found, works = report() if report else ({}, True)
        return web.Response(
            body=orjson.dumps(found), status=200 if works else 503, content_type="application/json"
        )

    app = web.Application()
    if report is not None:
        app.router.add_get("/health", health)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/health/live", liveness)
    app.router.add_get("/health/ready", readiness)
    runner = BoundedRunner(app, HttpBounds(makes_room=True), shutdown_timeout=_SHUTDOWN_GRACE_S)
    bound = await listen(runner, host, port, setting)
    try:
        yield bound
    finally:
        await runner.cleanup()
