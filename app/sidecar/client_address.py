"""Where a request comes from, when proxies stand between."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp import web

FORWARDED_FOR = "X-Forwarded-For"

Address = IPv4Address | IPv6Address


class ClientAddresses:
    """Believes what trusted proxies say of the address before them, and nobody else."""

    def __init__(self, trusted: Collection[str]) -> None:
        """`trusted`: networks such as 10.0.0.0/8. Raises ValueError for what is none."""
        self._trusted = tuple(ip_network(network) for network in trusted)

    def of_request(self, request: web.Request) -> Address | None:
        return self.of(request.remote, request.headers.getall(FORWARDED_FOR, ()))

    def of(self, peer: str | None, forwarded: Sequence[str]) -> Address | None:
        """The first address from the right that is no trusted proxy's.

        peer: who is connected; None (as over a socket file) gives None. forwarded: all X-Forwarded-For
        headers in their order. What is no address stops the walk at the hop that brought it.
        """
        hop = parse_address(peer or "")
        if hop is None or not self._trusts(hop):
            return hop
        elements = [element for header in forwarded for element in header.split(",")]
        for element in reversed(elements):
            before = parse_address(element.strip())
            if before is None:
                return hop
            hop = before
            if not self._trusts(hop):
                return hop
        return hop

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def parse_address(text: str) -> Address | None:
    """An IPv4 address in the form of IPv6 is given as itself."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def client_key(address: Address | None) -> str:
    """What counts as one client: an IPv4 address, or a /64 of IPv6, which a single host may use whole."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)
