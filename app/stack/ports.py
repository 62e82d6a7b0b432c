"""TCP ports on this machine: free ones, taken ones, and who holds them."""

from __future__ import annotations

import errno
import socket

import psutil

from app.errors import PortTaken

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A loopback port nobody listens on now; somebody may take it before we do, so the taker checks again."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def require_free_port(port: int, who: str, advice: str, host: str = LOOPBACK) -> None:
    """Raises PortTaken naming the process that holds `port`; `who` wants it, `advice` is the way out.
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
    """Whether process `pid` itself (not one of its children) accepts connections on `port`."""
    try:
        sockets = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets)


def _holder(port: int) -> str:
    for pid in psutil.pids():
        if listens(pid, port):
            try:
                return f"process {pid} ({psutil.Process(pid).name()}) does already"
            except psutil.Error:
                break
    return "another program does already"
