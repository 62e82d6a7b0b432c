"""The servers that each role depends on, and whether it can continue without one.

A server that answers may still refuse the role's work: a full disk, a standby, a partition without leader. So each
probe does that work: it stores a message, writes a row, sets a key, or checks the leaders of our topics.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Final

from aiokafka.client import AIOKafkaClient
from psycopg import AsyncConnection

from app.database.connection import WRITTEN_BY, connection_url, try_write
from app.errors import ClockDisagrees, ExchangeUnreachable, ServerUnreachable
from app.feed.exchange_clock import AGREE_MS, clock_fault
from app.feed.feed_health import FEED_HEALTH
from app.process.health.dependencies import Ask, Dependency
from app.process.tasks import to_its_end
from app.settings.access import AllServers, KafkaAccess, PostgresAccess, RedisAccess
from app.wire.kafka import client_options
from app.wire.nats.stream import probe_stream
from app.wire.redis import connect_redis, try_set
from app.wire.topics import Topics

NEEDS: Final[dict[str, dict[str, bool]]] = {
    # tickers wait for Redis, reports of gaps for Kafka; a start without the database fetches more than it must
    "feed": {"nats": True, "kafka": False, "redis": False, "postgres": False},
    "bridge": {"nats": True, "kafka": True},
    # Redis takes only reports of barriers
    "collector": {"kafka": True, "redis": False},
    # the database refills the tables' missing minutes after a start
    "calculator": {"kafka": True, "redis": False, "postgres": False},
    # cooldowns continue from memory, and the last known rules
    "alerts": {"kafka": True, "redis": False, "postgres": False},
    # NATS says whether a minute may still be completed, Redis and the database as for alerts
    "market": {"nats": False, "kafka": True, "redis": False, "postgres": False},
    "sinks": {"kafka": True, "postgres": True, "redis": False},
    "webhooks": {"kafka": True, "postgres": True},
}
"""Role -> server -> whether the role stops without it. The sidecar has its own report."""


def dependencies_of(roles: Collection[str], servers: AllServers) -> tuple[Dependency, ...]:
    """Return the dependencies of a process with these roles, including the exchange for the feed."""
    needed: dict[str, bool] = {}
    for role in roles:
        for server, is_needed in NEEDS.get(role, {}).items():
            needed[server] = needed.get(server, False) or is_needed
    writers = [role for role in roles if role in WRITTEN_BY]
    asks: dict[str, Ask] = {
        "nats": lambda: probe_stream(servers.nats),
        "kafka": lambda: _topics_have_leaders(servers.kafka),
        "redis": lambda: _redis_takes_keys(servers.redis),
        "postgres": lambda: _postgres_answers(servers.postgres, writers),
    }
    asked = tuple(Dependency(name, asks[name], need) for name, need in needed.items())
    if "feed" not in roles:
        return asked
    return (
        *asked,
        Dependency("exchange", _exchange_speaks),
        # its REST interface: history and gaps wait, candles of sockets still come
        Dependency("exchange-rest", _exchange_answers, needed=False),
        # with the wrong time minutes come late or are refused; the rest of the feed continues
        Dependency("clock", _clocks_agree, needed=False),
    )


async def _topics_have_leaders(kafka: KafkaAccess) -> None:
    """Ask for the leaders of all partitions of our topics, each of which some role writes to."""
    topics = Topics.of(kafka.namespace)
    client = AIOKafkaClient(**client_options(kafka), request_timeout_ms=3_000)
    try:
        # as in probe_kafka
        await to_its_end(client.bootstrap())
        cluster = await client.fetch_all_metadata()
    finally:
        await client.close()
    for topic in sorted(asdict(topics).values()):
        partitions = cluster.partitions_for_topic(topic) or set()
        led = cluster.available_partitions_for_topic(topic) or set()
        if not led or led != partitions:
            raise ServerUnreachable(
                f"Kafka has no leader for {sorted(partitions - led) or 'any'} of {topic!r}"
            )


async def _redis_takes_keys(redis: RedisAccess) -> None:
    async with connect_redis(redis.url) as client:
        await try_set(client, redis)


async def _postgres_answers(postgres: PostgresAccess, writers: Collection[str]) -> None:
    """For roles that write, write a row of each and roll it back; otherwise make a query."""
    async with await AsyncConnection.connect(connection_url(postgres)) as connection:
        for role in writers:
            await try_write(connection, role)
        if not writers:
            await connection.execute("SELECT 1")


async def _clocks_agree() -> None:
    """Check the clock offset that the feed last measured."""
    offset_s = FEED_HEALTH.clock_offset_s
    if abs(offset_s) * 1000 > AGREE_MS:
        raise ClockDisagrees(clock_fault(offset_s))


async def _exchange_speaks() -> None:
    """Look at the feed's own connections: to ask the exchange would count against its limits."""
    if not FEED_HEALTH.open_connections:
        said = f"; its answer: {FEED_HEALTH.last_fault}" if FEED_HEALTH.last_fault else ""
        raise ExchangeUnreachable(f"no connection to the exchange is open{said}")


async def _exchange_answers() -> None:
    """Check the result of the feed's last request."""
    if FEED_HEALTH.last_fault:
        raise ExchangeUnreachable(FEED_HEALTH.last_fault)
