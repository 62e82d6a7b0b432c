"""Probes of whether a server answers in its own protocol: each returns, or raises the client's own error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import psycopg
import redis.asyncio
from aiokafka.client import AIOKafkaClient
from nats.aio.client import Client as NatsClient
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.process.tasks import to_its_end
from app.wire.kafka import client_options_at

Probe = Callable[[str], Awaitable[None]]


async def probe_nats(url: str) -> None:
    """Connect, and ask JetStream about our account."""

    async def keep_quiet(_: Exception) -> None:
        pass

    client = NatsClient()
    try:
        await client.connect(
            url, allow_reconnect=False, connect_timeout=3, max_reconnect_attempts=1, error_cb=keep_quiet
        )
        await client.jetstream(timeout=3).account_info()
    finally:
        await client.close()  # also if it failed to connect half way, which leaves a connection open


async def probe_redis(url: str) -> None:
    """Send PING."""
    async with redis.asyncio.from_url(url, retry=Retry(NoBackoff(), 0)) as client:
        await client.ping()


async def probe_postgres(url: str) -> None:
    """Execute SELECT 1."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("SELECT 1")


async def probe_kafka(url: str, access: Mapping[str, Any] | None = None) -> None:
    """Request metadata, which must name at least one broker. `access`: client options, as of app.wire.kafka; None: from
    the URL."""
    client = AIOKafkaClient(**access or client_options_at(url), request_timeout_ms=3_000)
    try:
        # cancelled, it would leave its connection open; it ends after twice the time of a request
        await to_its_end(client.bootstrap())
        if not client.cluster.brokers():
            raise ConnectionError("it has no broker list")
    finally:
        await client.close()


PROBES: Mapping[str, Probe] = {
    "nats": probe_nats,
    "redis": probe_redis,
    "postgres": probe_postgres,
    "kafka": probe_kafka,
}
