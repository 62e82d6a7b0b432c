"""The check, before anything else starts, that all four servers answer; if not, which setting is wrong and why."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import nats.errors
import nats.js.errors
import psycopg.conninfo
import redis.exceptions

from app.errors import ServerUnreachable
from app.local.servers.catalogue import SERVERS
from app.process.health.probes import PROBES, Probe, probe_kafka
from app.process.tasks import together
from app.settings import PREFIX, ServerUrls

TIMEOUT_S = 3.0

Address = tuple[str, int]

_EXAMPLES: Mapping[str, str] = {
    "nats": "nats://host:4222",
    "redis": "redis://host:6379/0",
    "postgres": "postgresql://user:password@host:5432/database",
    "kafka": "host:9092,host:9092",
}


async def check_servers(urls: ServerUrls, access: Mapping[str, Any] | None = None) -> None:
    """Check all servers. Raises one ServerUnreachable that names every server that does not answer in its own
    protocol within 3 s, with the setting to correct. It shows host and port, but no URL, which may hold a password.

    access: client options of Kafka, as of app.wire.kafka; None: from the URL.
    """
    probes: dict[str, Probe] = {**PROBES, "kafka": partial(probe_kafka, access=access)}
    servers = asdict(urls)
    faults = await together(*(_fault(server, url, probes[server]) for server, url in servers.items()))
    found = [fault for fault in faults if fault is not None]
    if found:
        raise ServerUnreachable("\n".join(("cannot use these servers:", *(f"  {one}" for one in found))))


async def _fault(server: str, url: str, probe: Probe) -> str | None:
    """Return the fault, as a sentence that starts with the setting; None without one."""
    setting = f"{PREFIX}{server.upper()}_URL"
    try:
        addresses = _ADDRESSES[server](url)
    except (ValueError, psycopg.ProgrammingError):
        return f"{setting}: not a URL of the form {_EXAMPLES[server]}"
    title = SERVERS[server].title
    where = ", ".join(f"{host}:{port}" for host, port in addresses) or "its socket"
    try:
        async with asyncio.timeout(TIMEOUT_S):
            if addresses:
                await _connect_to_any(addresses)
            await probe(url)
    except TimeoutError:
        why = (
            f"no answer from {where} within {TIMEOUT_S:.0f} s; is that a {title} server, and is it reachable?"
        )
    except socket.gaierror:
        why = f"unknown host name in {where}; correct the host"
    except ConnectionRefusedError:
        why = f"nothing listens at {where}; start {title} there, or correct host and port"
    except Exception as error:  # of any type of the client; whichever it is, the server is unusable
        why = _explain(error, title, where)
    else:
        return None
    return f"{setting}: {why}"


def _explain(error: Exception, title: str, where: str) -> str:
    detail = " ".join(str(error).split())[:200] or type(error).__name__
    refusals = (nats.errors.AuthorizationError, redis.exceptions.AuthenticationError)
    if isinstance(error, refusals) or "auth" in detail.lower():
        return f"{title} at {where} rejects the user name or password ({detail})"
    if isinstance(error, nats.js.errors.ServiceUnavailableError | nats.errors.NoRespondersError):
        return f"{title} at {where} runs without JetStream; start it with -js"
    if isinstance(error, OSError):
        return f"no connection to {where} ({detail}); correct host and port"
    return f"{where} is not {title} ({detail}); correct host, port and database"


async def _connect_to_any(addresses: tuple[Address, ...]) -> None:
    """Connect to any address. Raises the error of the last one when no address accepts a connection."""
    failure: OSError | None = None
    for host, port in addresses:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            failure = error
        else:
            writer.close()
            return
    if failure is not None:
        raise failure


def _nats_addresses(url: str) -> tuple[Address, ...]:
    return tuple(_address(one, ("nats", "tls", "ws", "wss"), 4222) for one in url.split(","))


def _redis_addresses(url: str) -> tuple[Address, ...]:
    if url.startswith("unix://"):
        return ()
    return (_address(url, ("redis", "rediss"), 6379),)


def _postgres_addresses(url: str) -> tuple[Address, ...]:
    known = psycopg.conninfo.conninfo_to_dict(url)
    hosts = str(known.get("host") or "/").split(",")
    ports = str(known.get("port") or "5432").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    return tuple(
        (host, int(port)) for host, port in zip(hosts, ports, strict=True) if not host.startswith("/")
    )


def _kafka_addresses(url: str) -> tuple[Address, ...]:
    if "://" in url:
        raise ValueError("a list of host:port, without a scheme")
    return tuple(_address(f"kafka://{one.strip()}", ("kafka",), 9092) for one in url.split(","))


def _address(url: str, schemes: tuple[str, ...], default_port: int) -> Address:
    parts = urlsplit(url.strip())
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(url)
    return parts.hostname, parts.port or default_port


_ADDRESSES: Mapping[str, Callable[[str], tuple[Address, ...]]] = {
    "nats": _nats_addresses,
    "redis": _redis_addresses,
    "postgres": _postgres_addresses,
    "kafka": _kafka_addresses,
}
