"""Checks before every handler: who is calling, whether the rate limit allows it, and whether the caller has access."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from app.errors import TokenRefused
from app.sidecar.access.auth import Caller, TokenVerifier
from app.sidecar.access.client_address import ClientAddresses, client_key
from app.sidecar.access.rate_limit import RateLimiter
from app.sidecar.http.problems import RequestError
from app.sidecar.http.route_table import Access, RouteTable
from app.telemetry import SidecarMetrics

LIMIT_HEADERS: Final = web.RequestKey("limit_headers", dict[str, str])
_CALLER: Final = web.RequestKey("caller", Caller)
_CHALLENGE: Final[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


def caller_of(request: web.Request) -> Caller:
    """Return the caller of a route that needs a user."""
    return request[_CALLER]


def known_caller(request: web.Request) -> Caller | None:
    """Return the caller, if a token named one."""
    return request.get(_CALLER)


def token_required() -> RequestError:
    return RequestError(
        401, "token_required", "this request needs a token: Authorization: Bearer ...", _CHALLENGE
    )


def admission(
    routes: RouteTable,
    verifier: TokenVerifier | None,
    addresses: ClientAddresses,
    limiter: RateLimiter,
    metrics: SidecarMetrics,
) -> Middleware:
    """Return the middleware that checks every request. Requests without a route count against the limit too; without a
    verifier, tokens are ignored."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = routes.of(request)
        caller: Caller | None = None
        refusal: TokenRefused | None = None
        if verifier is not None and hdrs.AUTHORIZATION in request.headers:
            try:
                caller = await verifier.authenticate(_token(request))
            except TokenRefused as error:
                refusal = error
        if limiter.per_minute and (route is None or route.limited):
            client = _client(caller, addresses, request)
            allowance = limiter.take(client, 1 if route is None else route.cost(request))
            request[LIMIT_HEADERS] = allowance.headers()
            if not allowance.allowed:
                metrics.rate_limited.labels("user" if caller else "address").inc()
                raise RequestError(
                    429, "too_many_requests", "too many requests in this minute; retry after Retry-After"
                )
        if refusal is not None:
            raise _unauthorized(refusal)
        if route is not None:
            _check_access(route.access, caller, verifier is not None)
        if caller is not None:
            request[_CALLER] = caller
        return await handler(request)

    return middleware


def _client(caller: Caller | None, addresses: ClientAddresses, request: web.Request) -> str:
    if caller is not None:
        return f"user {caller.user_id}"
    return f"address {client_key(addresses.of_request(request))}"


def _token(request: web.Request) -> str:
    values = request.headers.getall(hdrs.AUTHORIZATION)
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer":
        raise TokenRefused("token_invalid", "the header must be: Authorization: Bearer <token>")
    return token.strip()


def _check_access(access: Access, caller: Caller | None, users: bool) -> None:
    if access is Access.PUBLIC:
        return
    if not users:
        raise RequestError(
            403, "auth_not_configured", "this request needs a user, but this screener has no key for tokens"
        )
    if caller is None:
        raise token_required()
    if access is Access.ADMIN and not caller.admin:
        raise RequestError(403, "admin_required", "only administrators may do this")


def _unauthorized(error: TokenRefused) -> RequestError:
    if error.code == "keys_unavailable":
        return RequestError(503, error.code, f"{error}; try again", {"Retry-After": "5"})
    return RequestError(401, error.code, str(error), {"WWW-Authenticate": 'Bearer error="invalid_token"'})
