"""The client's address behind proxies."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp import web

FORWARDED_FOR = "X-Forwarded-For"

Address = IPv4Address | IPv6Address


class ClientAddresses:
    """Finds a client's address; believes forwarded addresses only from trusted proxies."""

    def __init__(self, trusted: Collection[str]) -> None:
        """`trusted`: networks, for example 10.0.0.0/8. Raises ValueError for an invalid network."""
        self._trusted = tuple(ip_network(network) for network in trusted)

    def of_request(self, request: web.Request) -> Address | None:
        return self.of(request.remote, request.headers.getall(FORWARDED_FOR, ()))

    def of(self, peer: str | None, forwarded: Sequence[str]) -> Address | None:
        """Return the first address from the right that is no trusted proxy's.

        peer: the connected address; None (as over a socket file) gives None. forwarded: all X-Forwarded-For
        headers in their order. An invalid address stops the walk at the hop that brought it.
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

    def counted(self, peer: str) -> str | None:
        """Return the key that counts a peer's connection; None for a trusted proxy, which serves many clients."""
        address = parse_address(peer)
        return None if address is not None and self._trusts(address) else client_key(address)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def parse_address(text: str) -> Address | None:
    """Return the address; None if it is invalid. An IPv4 address mapped into IPv6 is returned as IPv4."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def client_key(address: Address | None) -> str:
    """Return the key of one client: an IPv4 address, or a /64 of IPv6, which a single host may use completely."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)
