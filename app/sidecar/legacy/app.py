"""The legacy port as a web application: the earlier gateway's routes, with the sidecar's access rules and limits."""

from __future__ import annotations

from typing import Final

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from app.sidecar.access.admission import admission
from app.sidecar.access.origins import Origins
from app.sidecar.http.app import clients_told
from app.sidecar.http.middlewares import http_metrics, limit_headers, request_ids, security_headers
from app.sidecar.http.problems import RequestError
from app.sidecar.http.route_table import Access, Route, RouteTable
from app.sidecar.http.routes import KLINES_COST, WHOLE_MARKET_COST, costing
from app.sidecar.legacy.health import HealthPages
from app.sidecar.legacy.reads import (
    AlertsEndpoint,
    KlinesEndpoint,
    MetricsEndpoint,
    TickersEndpoint,
    json_response,
)
from app.sidecar.legacy.settings import SettingsEndpoint
from app.sidecar.state.parts import Parts
from app.telemetry import sidecar_metrics

_BODY_MAX_BYTES: Final = 64 * 1024
_CODES: Final = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    429: "rate_limit_exceeded",
}
_TEXTS: Final = {404: "not found", 405: "method not allowed", 413: "the request is too large"}

log = structlog.get_logger("sidecar.http")


def create_legacy_app(parts: Parts) -> web.Application:
    """Return the application over `parts`, which it shares with the sidecar."""
    gateway = sidecar_metrics(parts.registry)
    table = RouteTable(_routes(parts))
    app = web.Application(
        middlewares=[
            request_ids(),
            security_headers(),
            http_metrics(gateway),
            cross_origin(parts.origins),
            limit_headers(),
            _errors(),
            admission(table, parts.verifier, parts.addresses, parts.limiter, gateway),
        ],
        client_max_size=_BODY_MAX_BYTES,
    )
    table.add_to(app)
    app.on_shutdown.append(clients_told(parts))
    return app


def _routes(parts: Parts) -> tuple[Route, ...]:
    health, metrics = HealthPages(parts.health, parts.clock), MetricsEndpoint(parts.latest)
    settings = SettingsEndpoint(parts.database, parts.clock)
    klines = KlinesEndpoint(parts.database, parts.latest)
    pages = (
        ("/health", health.report),
        ("/api/health", health.report),
        ("/health/live", health.live),
        ("/health/ready", health.ready),
        ("/api/metrics", metrics.redirect),
    )
    return (
        *(Route("GET", path, handler, Access.PUBLIC, limited=False) for path, handler in pages),
        Route("GET", "/api/alerts", AlertsEndpoint(parts.history).get, Access.PUBLIC),
        Route("GET", "/api/metrics/", metrics.get_all, Access.PUBLIC, cost=costing(WHOLE_MARKET_COST)),
        Route("GET", "/api/metrics/{symbol}", metrics.get_one, Access.PUBLIC),
        Route("GET", "/api/tickers", TickersEndpoint(parts.tickers).get, Access.PUBLIC),
        Route("GET", "/api/klines", klines.get, Access.PUBLIC, cost=costing(KLINES_COST)),
        Route("GET", "/api/settings", settings.get, Access.USER),
        Route("POST", "/api/settings", settings.replace, Access.USER),
        Route(
            "GET",
            "/ws/alerts",
            parts.legacy_alert_stream.handle_new,
            Access.PUBLIC,
            limited=False,
            websocket=True,
        ),
    )


def _errors() -> Middleware:
    """Turn every failure into the earlier `{"error", "message"}`; internal errors go to the log only."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except RequestError as error:
            return _failure(error.status, _CODES.get(error.status, error.code), error.message, error.headers)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            allow = {"Allow": error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else {}
            text = _TEXTS.get(error.status, "the request is invalid")
            return _failure(error.status, _CODES.get(error.status, "invalid_request"), text, allow)
        except Exception:  # the last resort of a server: the client gets a neutral answer, the log the fault
            log.exception("request_failed", method=request.method, route=request.path[:80])
            return _failure(500, "internal", "the request failed on the server; the error is logged", {})

    return middleware


def _failure(status: int, code: str, message: str, headers: dict[str, str]) -> web.Response:
    response = json_response({"error": code, "message": message}, status)
    response.headers.update(headers)
    return response


def cross_origin(origins: Origins) -> Middleware:
    """Let pages of the allowed origins, and no others, send requests and read the answers. Credentials are allowed, as
    in the earlier gateway: the sidecar has no cookies, so they contain nothing."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or not origins.listed(origin):
            return await handler(request)
        asks = request.method == hdrs.METH_OPTIONS
        response: web.StreamResponse = web.Response(status=204) if asks else await handler(request)
        if not response.prepared:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "GET, POST, OPTIONS"
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = "Content-Type, Authorization"
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
            response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        return response

    return middleware
