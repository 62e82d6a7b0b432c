"""Resolves names to addresses, none of which may be private.

The HTTP client connects to exactly the addresses given here, while TLS continues naming and checking the host.
Between the check and the connection there is no second look-up, so an answer that changes in between (DNS rebinding)
has no effect.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

from app.webhooks.targets.addresses import why_not_public
from app.webhooks.targets.urls import AllowedHosts

# names whose servers do not answer keep a thread for seconds; the event loop's four threads serve everything else
_THREADS: Final = 32

LookUp = Callable[[str], list[str]]
"""Return all addresses of a name, as text; blocking. Raises OSError if it has none."""


class ForbiddenAddress(OSError):
    """A name led to an address that webhooks must not go to."""


def system_look_up(host: str) -> list[str]:
    """Resolve by the operating system: hosts file, DNS, IPv4 and IPv6."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedResolver(AbstractResolver):
    """Rejects a name if one of its addresses is rejected: a genuine public host has no private address."""

    def __init__(self, allowed: AllowedHosts, look_up: LookUp = system_look_up) -> None:
        self._allowed = allowed
        self._look_up = look_up
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="webhook-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve a name. Raises ForbiddenAddress, and OSError for a name without addresses."""
        found = await asyncio.get_running_loop().run_in_executor(self._threads, self._look_up, host)
        if not found:
            raise OSError("the name has no address")
        return [self._checked(host, address, port) for address in found]

    def _checked(self, host: str, text: str, port: int) -> ResolveResult:
        address = ip_address(text)
        what = why_not_public(address)
        trusted = self._allowed.has_name(host.removesuffix(".")) or self._allowed.has_address(address)
        if what is not None and not trusted:
            raise ForbiddenAddress(f"it resolves to an address that is {what}")
        return {
            "hostname": host,
            "host": text,
            "port": port,
            "family": socket.AF_INET if address.version == 4 else socket.AF_INET6,
            "proto": 0,
            "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        }

    async def close(self, **_: Any) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
