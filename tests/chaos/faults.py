"""Faults of a process and its children: they are killed, stopped for a while, or lose their connections."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import signal
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress

import psutil

_PIDFD_GETFD = 438
"""The system call's number, the same on all platforms of Linux."""
_ESTABLISHED = 1
"""The first byte of TCP_INFO for an established connection."""
_GONE = (errno.EBADF, errno.ESRCH)
_libc = ctypes.CDLL(None, use_errno=True)


def kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)


async def stop_for(process: psutil.Process, seconds: float) -> None:
    stopped = _family(process)
    for one in stopped:
        with suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        for one in stopped:
            with suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGCONT)


def sever(process: psutil.Process) -> int:
    """Shut down every TCP connection of a process and its children, which go on. Return how many were cut.

    A connection that its owner closes meanwhile does not count. Raises AssertionError for one that stays connected.
    """
    return sum(
        _shut_down(one.pid, connection.fd)
        for one in _family(process)
        for connection in _connections(one)
        if connection.status == psutil.CONN_ESTABLISHED
    )


def _family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and its children: a server such as PostgreSQL serves each client in a child."""
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def _connections(process: psutil.Process) -> Sequence[psutil._common.pconn]:
    with suppress(psutil.NoSuchProcess):
        return list(process.net_connections("tcp"))
    return ()


def _shut_down(pid: int, number: int) -> bool:
    """Shut down a connection through a copy of the other process's descriptor, which only its owner may get."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        copied = _libc.syscall(_PIDFD_GETFD, handle, number, 0)
        if copied < 0:
            code = ctypes.get_errno()
            if code in _GONE:
                return False
            raise OSError(code, os.strerror(code))
        with socket.socket(fileno=copied) as connection:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return False  # closed by its owner between the two calls
            (state,) = struct.unpack("B", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1))
            assert state != _ESTABLISHED, f"descriptor {number} of process {pid} is still connected"
            return True
    finally:
        os.close(handle)
