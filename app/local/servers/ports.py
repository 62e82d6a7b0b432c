"""TCP ports on this machine: free ones, taken ones, and who holds them."""

from __future__ import annotations

import errno
import itertools
import random
import socket
from contextlib import suppress
from pathlib import Path

import psutil

from app.errors import PortTaken

LOOPBACK = "127.0.0.1"
_LOWEST_PORT = 10_000
_EPHEMERAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_ATTEMPTS = 50
_TURN = itertools.count(random.SystemRandom().randrange(1 << 16))
"""Processes begin at different ports, so that two rarely look at the same one."""


def free_port() -> int:
    """Return a loopback port that nobody listens on now. Another program may take it first, so the caller checks again.

    The port is below the range from which the system takes the ports of outgoing connections: a server that
    starts later, or restarts, could find a port of that range taken by a connection.
    No port is returned twice before all others were.
    """
    ports = range(_LOWEST_PORT, _lowest_ephemeral_port())
    for _ in range(min(_ATTEMPTS, len(ports))):
        port = ports[next(_TURN) % len(ports)]
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _lowest_ephemeral_port() -> int:
    try:
        return int(_EPHEMERAL_PORTS.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _LOWEST_PORT


def require_free_port(port: int, who: str, advice: str, host: str = LOOPBACK) -> None:
    """Check `port`. Raises PortTaken naming the process that holds it; `who` wants it, `advice` is the way out.
    Port 0 (any) is always free."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As servers do, so that connections of an earlier run in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(f"{who} cannot listen on {host}:{port}: {_holder(port)}; {advice}") from error
            raise PortTaken(f"{who} cannot listen on {host}:{port}: {error.strerror}; {advice}") from error


def listens(pid: int, port: int) -> bool:
    """Return whether process `pid` itself (not one of its children) accepts connections on `port`."""
    try:
        sockets = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets)


def _holder(port: int) -> str:
    for pid in psutil.pids():
        if listens(pid, port):
            try:
                return f"process {pid} ({psutil.Process(pid).name()}) uses it"
            except psutil.Error:
                break
    return "another program uses it"
