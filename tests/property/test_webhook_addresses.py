"""Addresses taken for public are so by Python's own tables as well."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import example, given
from hypothesis import strategies as st

from app.webhooks.targets.addresses import why_not_public


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
@example(IPv4Address("223.255.255.255"))
@example(IPv4Address("172.32.0.0"))
@example(IPv4Address("100.128.0.0"))
def test_public_ipv4_addresses_are_those_that_are_global_and_not_multicast(address: IPv4Address) -> None:
    known = {"192.88.99.0": 24, "168.63.129.16": 32}  # public by the registry, refused by us on purpose
    if any(
        int(address) >> (32 - bits) == int(ip_address(base)) >> (32 - bits) for base, bits in known.items()
    ):
        return
    assert (why_not_public(address) is None) == (address.is_global and not address.is_multicast)


@given(st.integers(0, 2**128 - 1).map(IPv6Address) | st.ip_addresses(v=6))
def test_public_ipv6_addresses_are_global_and_embed_no_private_one(address: IPv6Address) -> None:
    if why_not_public(address) is None and not address.exploded.startswith("0064:ff9b:0000:0000"):
        assert address.is_global
        assert not address.is_multicast
        assert address.ipv4_mapped is None
        assert address.sixtofour is None
        assert address.teredo is None


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_nat64_is_as_public_as_the_address_it_embeds(address: IPv4Address) -> None:
    embedded = IPv6Address(int(IPv6Address("64:ff9b::")) | int(address))
    assert (why_not_public(embedded) is None) == (why_not_public(address) is None)
