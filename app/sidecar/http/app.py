"""The sidecar's web application: its routes, the middlewares, and its server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import web

from app.sidecar.access.admission import admission
from app.sidecar.http.middlewares import (
    cross_origin,
    errors_as_json,
    http_metrics,
    limit_headers,
    request_ids,
    security_headers,
)
from app.sidecar.http.problems import RequestError
from app.sidecar.http.route_table import RouteTable
from app.sidecar.http.routes import routes_of
from app.sidecar.state.parts import Parts
from app.telemetry import sidecar_metrics
from app.telemetry.bounded_http import BoundedHandler, BoundedRunner, BoundedServer

_BODY_MAX_BYTES: Final = 64 * 1024
log = structlog.get_logger("sidecar.http")


def create_app(parts: Parts) -> web.Application:
    """Return the application over `parts`; the caller runs the background tasks."""
    gateway = sidecar_metrics(parts.registry)
    table = RouteTable(routes_of(parts))
    app = web.Application(
        middlewares=[
            request_ids(),
            security_headers(),
            http_metrics(gateway),
            cross_origin(parts.origins, table),
            limit_headers(),
            errors_as_json(),
            admission(table, parts.verifier, parts.addresses, parts.limiter, gateway),
        ],
        client_max_size=_BODY_MAX_BYTES,
    )
    table.add_to(app)
    app.on_shutdown.append(clients_told(parts))
    return app


def clients_told(parts: Parts) -> Callable[[web.Application], Awaitable[None]]:
    """Return the shutdown handler of an application: it ends readiness and tells the WebSocket clients."""

    async def stop_clients(_: web.Application) -> None:
        parts.health.stopping = True
        await parts.clients.drain()

    return stop_clients


class _QuietHandler(BoundedHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a malformed HTTP request, before any middleware."""
        if isinstance(exc, UnicodeEncodeError):  # aiohttp repeats a rejected header, text or not
            status = 400
        log.info("request_unreadable", status=status, kind=type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer started and cannot be completed")
        response = RequestError(status, "bad_request", "the request is invalid").response()
        response.headers["Server"] = "screener"
        response.force_close()
        return response


class _QuietServer(BoundedServer):
    handler = _QuietHandler


class QuietRunner(BoundedRunner):
    """A BoundedRunner that logs less."""

    __slots__ = ()
    server_class = _QuietServer
