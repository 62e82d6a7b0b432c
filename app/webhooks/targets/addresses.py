"""IP addresses that a user's URL may resolve to: only addresses of the public internet.

The tables are IANA's registries of special-purpose addresses (RFC 6890 and its successors), written out so that
the answer is the same on every version of Python.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_SPECIAL_V4: Final = {
    IPv4Network(network): what
    for network, what in {
        "0.0.0.0/8": "this network",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "carrier-grade NAT",
        "127.0.0.0/8": "loopback",
        # publicly routed, but inside Azure it is the platform itself
        "168.63.129.16/32": "a cloud's metadata service",
        "169.254.0.0/16": "link-local",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "protocol assignments",
        "192.0.2.0/24": "documentation",
        "192.88.99.0/24": "6to4 relay",
        "192.168.0.0/16": "private",
        "198.18.0.0/15": "benchmarking",
        "198.51.100.0/24": "documentation",
        "203.0.113.0/24": "documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
    }.items()
}
_SPECIAL_V6: Final = {
    IPv6Network(network): what
    for network, what in {
        "::/128": "unspecified",
        "::1/128": "loopback",
        "::ffff:0:0/96": "IPv4-mapped",
        "64:ff9b:1::/48": "local NAT64",
        "100::/64": "discard",
        "2001::/23": "protocol assignments",
        "2001:db8::/32": "documentation",
        "2002::/16": "6to4",
        "3fff::/20": "documentation",
        "fc00::/7": "unique local",
        "fe80::/10": "link-local",
        "fec0::/10": "site-local",
        "ff00::/8": "multicast",
    }.items()
}
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")


def why_not_public(address: Address) -> str | None:
    """Return the kind of a non-public address, for example `loopback`; None for a public address.

    An address of NAT64 (RFC 6052) counts as the IPv4 address in its last 32 bits: networks without IPv4 see
    every IPv4 host under these addresses.
    """
    if isinstance(address, IPv4Address):
        return next((what for network, what in _SPECIAL_V4.items() if address in network), None)
    if address.scope_id is not None:
        return "link-local"
    if address in _NAT64:
        what = why_not_public(IPv4Address(int(address) & 0xFFFF_FFFF))
        return what and f"NAT64 of {what}"
    for network, what in _SPECIAL_V6.items():
        if address in network:
            return what
    return None if address in _GLOBAL_UNICAST else "not assigned"
