"""The counts of the rate limit, exchanged among replicas over Redis."""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.settings.access import Namespace
from app.sidecar.access.rate_limit import WINDOW_MS, RateLimiter
from app.wire.retry import OutageLog

_EVERY_S: Final = 0.25
_AFTER_FAULT_S: Final = 2.0
_MOST_CLIENTS: Final = 1_000
"""Clients in one exchange; the others follow in the next."""

log = structlog.get_logger("sidecar.rate_limit")


class SharedCounts:
    """Shares counts over Redis: one counter per client and window, under a hash of the client; no address is stored."""

    def __init__(self, limiter: RateLimiter, redis: Redis, namespace: Namespace) -> None:
        self._limiter = limiter
        self._redis = redis
        self._prefix = namespace.name("requests")
        self._outage = OutageLog(log, "rate_limit_not_shared")
        self.shared = True
        """Whether the last exchange worked."""

    async def run(self) -> None:
        """Exchange counts until cancelled."""
        while True:
            try:
                await self.exchange()
            except (RedisError, OSError, TimeoutError) as error:
                self._outage.failed(error)
                self.shared = False
                await asyncio.sleep(_AFTER_FAULT_S)
            else:
                self._outage.over()
                self.shared = True
                await asyncio.sleep(_EVERY_S)

    async def exchange(self) -> None:
        """Share the counts of requests allowed since the last exchange. Raises RedisError, OSError or TimeoutError;
        the other replicas then miss these counts for the rest of the window."""
        window, told = self._limiter.window, self._limiter.to_share(_MOST_CLIENTS)
        if not told:
            return
        async with self._redis.pipeline(transaction=False) as pipeline:
            for client, requests in told.items():
                key = self._key(window, client)
                pipeline.incrby(key, requests)
                pipeline.pexpire(key, 2 * WINDOW_MS)
            answers = await pipeline.execute()
        self._limiter.heard(window, dict(zip(told, answers[::2], strict=True)))

    def _key(self, window: int, client: str) -> str:
        return f"{self._prefix}:{window}:{blake2b(client.encode(), digest_size=12).hexdigest()}"
