"""Free ports for local servers."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

from app.local.servers.ports import LOOPBACK, free_port


def test_ports_of_servers_are_none_that_an_outgoing_connection_can_take_and_none_comes_twice() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == len(ports)
    assert all(1024 < port < lowest for port in ports)


def test_a_port_that_somebody_listens_on_is_left_out() -> None:
    first = free_port()
    with socket.socket() as taken, suppress(OSError):  # then another program has it, which is as good
        taken.bind((LOOPBACK, first + 1))
        assert free_port() not in (first, first + 1)
