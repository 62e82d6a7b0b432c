"""Routes: a path, its handler, and who may call it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler


class Access(Enum):
    """Who may call a route. PUBLIC: anyone. USER: a caller with a token. ADMIN: a caller whose token has that role."""

    PUBLIC = "public"
    USER = "user"
    ADMIN = "admin"


def plain_cost(_: web.Request) -> int:
    """Return the cost of a normal request."""
    return 1


@dataclass(frozen=True, slots=True)
class Route:
    """cost: how many requests a call counts as, against the limit.

    limited: whether a request counts against the caller's limit. A GET route answers HEAD too, except for a
    WebSocket."""

    method: str
    path: str
    handler: Handler
    access: Access
    limited: bool = True
    websocket: bool = False
    cost: Callable[[web.Request], int] = plain_cost


class RouteTable:
    """All routes of an application; each one declares its access."""

    def __init__(self, routes: Sequence[Route]) -> None:
        """Raises ValueError for two routes with the same method and path."""
        self._routes = tuple(routes)
        self._by_address = {(route.method, route.path): route for route in routes}
        if len(self._by_address) < len(self._routes):
            raise ValueError("two routes have the same method and path")

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def add_to(self, app: web.Application) -> None:
        for route in self._routes:
            if route.method == hdrs.METH_GET:
                app.router.add_get(route.path, route.handler, allow_head=not route.websocket)
            else:
                app.router.add_route(route.method, route.path, route.handler)

    def of(self, request: web.Request) -> Route | None:
        """Return the route of a request; None for an unknown address or method."""
        resource = request.match_info.route.resource
        if resource is None:
            return None
        method = hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
        return self._by_address.get((method, resource.canonical))
