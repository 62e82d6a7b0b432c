"""Web pages that may use the sidecar from a browser."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import hdrs, web


class Origins:
    """The allowed origins, matched exactly. Clients other than browsers send no origin and are not restricted."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = frozenset(allowed)

    def listed(self, origin: str) -> bool:
        return origin in self._allowed

    def may_connect(self, request: web.Request) -> bool:
        """Return whether a WebSocket may be opened: from a listed origin, or from our own page.

        A page counts as our own only on `localhost` or a bare address: any other name could be made to point here
        (DNS rebinding) and has to be listed.
        """
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or self.listed(origin):
            return True
        return origin == f"{request.scheme}://{request.host}" and _is_bare_host(request.host)


def _is_bare_host(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost":
            return True
        ip_address(name)
    except ValueError:
        return False
    return True
