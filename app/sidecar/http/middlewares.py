"""Middlewares around every request: an id in the log and the answer, metrics, and errors without internals."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import cache
from time import perf_counter
from uuid import uuid4

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from app.sidecar.access.admission import LIMIT_HEADERS
from app.sidecar.access.origins import Origins
from app.sidecar.http.problems import RequestError
from app.sidecar.http.route_table import RouteTable
from app.telemetry import SidecarMetrics

REQUEST_ID = "X-Request-ID"
_USABLE_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
_TEXTS = {
    404: "nothing exists at this path",
    405: "this path does not support this method",
    413: "the request is too large",
}

_SECURITY_HEADERS = (
    ("Server", "screener"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
_REQUEST_HEADERS = f"Authorization, Content-Type, If-None-Match, {REQUEST_ID}"
_ANSWER_HEADERS = f"ETag, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, {REQUEST_ID}"

log = structlog.get_logger("sidecar.http")

_Wrap = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]


def _route(request: web.Request) -> str:
    """Return the pattern of the request's route: a label that clients cannot multiply."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "none"


def request_ids() -> Middleware:
    """Use the caller's id if it is well formed, or a new one, and bind it to all log events of the request."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get(REQUEST_ID, "")
        identifier = given if _USABLE_ID.fullmatch(given) else uuid4().hex
        with structlog.contextvars.bound_contextvars(request_id=identifier):
            response = await handler(request)
        if not response.prepared:
            response.headers[REQUEST_ID] = identifier
        return response

    return middleware


def http_metrics(metrics: SidecarMetrics) -> Middleware:
    """Count and time every answer; WebSocket connections are counted, not timed."""
    # looking up a metric by its labels costs more than counting
    counters = cache(metrics.http_requests.labels)
    timers = cache(metrics.http_duration.labels)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        begun_s = perf_counter()
        response = await handler(request)
        route = _route(request)
        method = request.method if request.method in hdrs.METH_ALL else "other"
        counters(method, route, str(response.status)).inc()
        if response.status != 101:
            timers(method, route).observe(perf_counter() - begun_s)
            log.debug("answered", method=request.method, route=route, status=response.status)
        return response

    return middleware


def errors_as_json() -> Middleware:
    """Turn every failure into `{"error", "message"}`; internal errors go to the log only."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except RequestError as error:
            return error.response()
        except web.HTTPException as error:
            if error.status < 400:
                raise
            allow = {"Allow": error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else None
            code = _CODES.get(error.status, "bad_request")
            text = _TEXTS.get(error.status, "the request is invalid")
            return RequestError(error.status, code, text, allow).response()
        except Exception:  # the last resort of a server: the client gets a neutral answer, the log the fault
            log.exception("request_failed", method=request.method, route=_route(request))
            return RequestError(
                500, "internal", "the request failed on the server; the error is logged"
            ).response()

    return middleware


def security_headers() -> Middleware:
    """Add headers for browsers: an answer is data, never framed or sniffed, unless a handler says otherwise.
    The Server header tells no version."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if not response.prepared:
            for name, value in _SECURITY_HEADERS:
                response.headers.setdefault(name, value)
        return response

    return middleware


def limit_headers() -> Middleware:
    """Tell every client how much of its limit is left, also when its request is rejected."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if not response.prepared:
            response.headers.update(request.get(LIMIT_HEADERS, {}))
        return response

    return middleware


def cross_origin(origins: Origins, routes: RouteTable) -> Middleware:
    """Let pages of the allowed origins, and no others, send requests and read the answers."""
    methods = ", ".join(sorted({route.method for route in routes}))

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or not origins.listed(origin):
            return await handler(request)
        response: web.StreamResponse
        if request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
            response = web.Response(status=204)
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = methods
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = _REQUEST_HEADERS
            response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = "600"
        else:
            response = await handler(request)
        if not response.prepared:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _ANSWER_HEADERS
            response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        return response

    return middleware
