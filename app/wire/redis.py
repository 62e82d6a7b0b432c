"""Access to Redis for every client."""

from __future__ import annotations

from typing import Final

from redis.asyncio import Redis

from app.settings.access import Namespace, RedisAccess

_TIMEOUT_S: Final = 0.5
_TRIED_KEY_MS: Final = 10_000


def connect_redis(url: str) -> Redis:
    return Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)


async def try_set(client: Redis, names: Namespace | RedisAccess) -> None:
    """Set a key that soon expires: a replica, or a server whose memory is full or whose disk takes no snapshot, rejects
    it although it answers PING. Raises the client's errors."""
    await client.set(names.name("probe"), b"", px=_TRIED_KEY_MS)
