"""Checks that each server does its work for us: NATS greets and stores, Redis takes a key, PostgreSQL a row."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from nats.errors import Error as NatsError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.errors import ServerUnreachable
from app.settings.access import Namespace
from app.sidecar.state.database import Database
from app.wire.redis import try_set

WRITES: Final = "postgres-writes"
"""The check whether the database takes a row; shown as part of `postgres`."""
_NATS_PORT = 4222
_STORED_EVERY_S = 10.0

Check = Callable[[], Awaitable[None]]
"""Returns when the dependency answers; raises one of CHECK_FAULTS when it does not."""

CHECK_FAULTS = (
    OSError,
    TimeoutError,
    asyncio.IncompleteReadError,
    RedisError,
    ServerUnreachable,
    ssl.SSLError,
    NatsError,
)


async def ask_nats(urls: str) -> None:
    """Wait until one of the comma separated servers greets as NATS does."""
    fault: Exception | None = None
    for url in urls.split(","):
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        try:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or _NATS_PORT)
            try:
                if await reader.readexactly(5) == b"INFO ":
                    return
                fault = ServerUnreachable("the server is not NATS")
            finally:
                writer.close()
        except (OSError, asyncio.IncompleteReadError) as error:
            fault = error
    raise fault or ServerUnreachable("no NATS server is set")


def dependency_checks(
    nats_urls: str, redis: Redis, names: Namespace, database: Database, stores: Check | None = None
) -> dict[str, Check]:
    """Return name -> check of whether the server does its work for us. `stores`: checks that JetStream takes a
    message."""

    async def set_key() -> None:
        await try_set(redis, names)

    checks: dict[str, Check] = {
        "nats": partial(ask_nats, nats_urls),
        "redis": set_key,
        "postgres": database.ping,
        WRITES: _now_and_then(database.try_write),
    }
    if stores is not None:
        checks["nats"] = _both(checks["nats"], _now_and_then(stores))
    return checks


def _both(first: Check, then: Check) -> Check:
    async def check() -> None:
        await first()
        await then()

    return check


def _now_and_then(stores: Check) -> Check:
    """Return a check that calls `stores` every 10 s, and each time while it fails."""
    stored_s = float("-inf")

    async def check() -> None:
        nonlocal stored_s
        if time.monotonic() - stored_s > _STORED_EVERY_S:
            await stores()
            stored_s = time.monotonic()

    return check
