"""What every process shows of itself: its health and Prometheus pages, and its log.

The metric objects are in `app.telemetry`.
"""

from __future__ import annotations

import errno
import logging
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

import orjson
import structlog
from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from structlog.typing import EventDict, Processor, WrappedLogger

from app.errors import PortTaken
from app.telemetry.catalogue import RolePage

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["console", "json"]

Report = Callable[[], tuple[dict[str, Any], bool]]
"""Gives what /health answers, and whether the role can do its work (else the status is 503)."""

_SHUTDOWN_GRACE_S = 1.0


def metrics_response(page: CollectorRegistry | RolePage = REGISTRY) -> web.Response:
    """All metrics of a registry, or of one role, in Prometheus' text format."""
    body = generate_latest(page)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


def state_response(word: str, holds: bool) -> web.Response:
    """200 with `{word: true}`, or 503 with `{word: false}`."""
    return web.Response(
        body=orjson.dumps({word: holds}), status=200 if holds else 503, content_type="application/json"
    )


async def listen(runner: web.AppRunner, host: str, port: int, setting: str) -> int:
    """Starts `runner` on host:port and returns the port bound (`port` 0: any free one).

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
    registry: CollectorRegistry = REGISTRY,
    role: str | None = None,
    report: Report | None = None,
) -> AsyncIterator[int]:
    """Serves /metrics, /health/live, /health/ready and, given a report, /health while the context lasts; yields
    the port bound.

    live: False asks the supervisor for a restart. ready: False keeps traffic away for now.
    setting: the variable that sets `port`, such as SCREENER_SINKS_PORT; PortTaken names it.
    role: whose metrics to show; None shows the whole registry.
    """
    page = registry if role is None else RolePage(registry, role)

    async def metrics(_: web.Request) -> web.Response:
        return metrics_response(page)

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
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_GRACE_S)
    bound = await listen(runner, host, port, setting)
    try:
        yield bound
    finally:
        await runner.cleanup()


_MASK: Final = "***"
_SECRET_KEYS: Final = re.compile(
    r"password|passwd|secret|token|authorization|api_?key|jwt|cookie", re.IGNORECASE
)
_URL_PASSWORD: Final = re.compile(r"(\w+://[^:/@\s]*):[^@\s]+@")
_QUERY_SECRET: Final = re.compile(r"(?i)\b(password|passwd|secret|token|api_?key)=[^\s&;'\"]+")
_BEARER: Final = re.compile(r"(?i)\bbearer\s+[\w.~+/=-]+")


def masked(text: str) -> str:
    """`text` without passwords in URLs, `password=`-like pairs, and bearer tokens."""
    text = _URL_PASSWORD.sub(rf"\1:{_MASK}@", text)
    text = _QUERY_SECRET.sub(rf"\1={_MASK}", text)
    return _BEARER.sub(f"Bearer {_MASK}", text)


def _mask_value(key: str, value: object) -> object:
    if value is not None and _SECRET_KEYS.search(key):
        return _MASK
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {name: _mask_value(str(name), item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mask_value(key, item) for item in value]
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    return masked(str(value))


def mask_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A structlog processor: hides values under secret-like keys, and secrets inside any text."""
    return {key: value if key.startswith("_") else _mask_value(key, value) for key, value in event.items()}


_SHARED: Final[list[Processor]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
    structlog.processors.UnicodeDecoder(),
    mask_secrets,
]


def log_handler(log_format: LogFormat) -> logging.Handler:
    """A handler that writes to stderr, as text for people or as JSON lines, with secrets masked."""
    renderer: Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer(
            serializer=lambda event, **_: orjson.dumps(event).decode()
        )
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    return handler


def configure_logging(level: LogLevel, log_format: LogFormat) -> None:
    """Sends structlog and the standard library's log to stderr.

    Every event has `level`, `logger` and a UTC `timestamp`; secrets are masked. Calling it again replaces
    the set-up.
    """
    logging.basicConfig(level=level.upper(), handlers=[log_handler(log_format)], force=True)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
