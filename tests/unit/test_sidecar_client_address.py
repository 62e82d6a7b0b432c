"""Where a request comes from: nobody is believed but trusted proxies, and those only about the hop before them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sidecar.access.client_address import ClientAddresses, client_key, parse_address

TRUSTED = ClientAddresses(["10.0.0.0/8", "fd00::/8"])
NOBODY = ClientAddresses([])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        # what stands further left was written by the client itself
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1, 10.0.0.9"], "198.51.100.1"),
        # several headers are one list, in their order
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1", "10.0.0.9 ,10.0.0.8"], "198.51.100.1"),
        # what is no address stops the walk
        ("10.0.0.1", ["198.51.100.1, garbage"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, garbage, 10.0.0.9"], "10.0.0.9"),
        ("10.0.0.1", ["198.51.100.1, "], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "10.0.0.1"),
        ("10.0.0.1", ["0x7f.1"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
    ],
)
def test_the_client_is_the_last_hop_that_no_trusted_proxy_vouches_against(peer, forwarded, client):
    assert str(TRUSTED.of(peer, forwarded)) == client


def test_without_trusted_proxies_the_peer_is_the_client():
    assert str(NOBODY.of("10.0.0.1", ["198.51.100.1"])) == "10.0.0.1"
    assert NOBODY.of(None, ["198.51.100.1"]) is None


@given(st.lists(st.text(max_size=60), max_size=4))
def test_no_header_makes_an_untrusted_peer_another_one(forwarded):
    assert str(TRUSTED.of("203.0.113.7", forwarded)) == "203.0.113.7"


@given(st.lists(st.text(max_size=60), max_size=4), st.ip_addresses())
def test_whatever_a_client_sends_the_hop_that_the_proxy_added_is_found(forwarded, client):
    found = TRUSTED.of("10.0.0.1", [*forwarded, str(client)])
    expected = parse_address(str(client))
    if TRUSTED.of(str(client), []) == expected and not TRUSTED._trusts(expected):
        assert found == expected


def test_an_ipv6_network_of_64_bits_is_one_client():
    one, two, other = (
        client_key(parse_address(text)) for text in ("2001:db8::1", "2001:db8::2:3", "2001:db8:0:1::1")
    )
    assert one == two != other
    assert client_key(parse_address("198.51.100.1")) != client_key(parse_address("198.51.100.2"))
    assert client_key(parse_address("::ffff:198.51.100.1")) == "198.51.100.1"
