"""When each rule last fired for each symbol: in Redis for all workers, and in the worker's own memory.

Redis is a hint, not the judge: while it does not answer, the worker goes on from memory, counts it, and shows
it in `screener_cooldown_degraded`. What Redis missed it is told with the next call that it answers. The worst
that can follow is a repeated alert, which carries the same id.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from itertools import islice

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.settings import Settings
from app.telemetry import alert_metrics

FireKey = tuple[str, str]
"""(rule_type, symbol)"""

_KEPT_S = 8 * 24 * 3600
"""Longer than any cooldown."""
# One command with one answer: 250 SET commands cost the client 5 ms, this a fifth; MSET knows no expiry.
_SET_ALL = """
for number, key in ipairs(KEYS) do
    redis.call('SET', key, ARGV[number + 1], 'EX', ARGV[1])
end
"""
_TIMEOUT_S = 0.5
_RETRY_AFTER_S = 1.0
"""How long Redis is left alone after a failure: one wait per second, not one per frame."""
_MISSED_PER_CALL = 2_000
"""How many fires that Redis missed it is told in one call, which must end within the timeout."""

log = structlog.get_logger("cooldown")


def connect_redis(url: str) -> Redis:
    return Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)


class Cooldowns:
    """Event times (UTC ms) of the last fire by (rule_type, symbol)."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._memory: dict[FireKey, int] = {}
        self._missed: dict[FireKey, int] = {}
        """Those fires in memory that Redis may not have."""
        self._away_until_s = 0.0
        alert_metrics().cooldown_degraded.set(0)

    @property
    def degraded(self) -> bool:
        """True while Redis does not answer."""
        return time.monotonic() < self._away_until_s

    async def last_fired(self, keys: Iterable[FireKey]) -> dict[FireKey, int]:
        """The last fire of each key that has one: the later of what Redis and this worker know."""
        wanted = list(dict.fromkeys(keys))
        known = {key: self._memory[key] for key in wanted if key in self._memory}
        if not wanted or self._skip():
            return known
        try:
            await self._tell_what_it_missed()
            values = await self._redis.mget([self._key(key) for key in wanted])
        except (RedisError, OSError, TimeoutError) as error:
            self._lost(error)
            return known
        self._answered()
        for key, value in zip(wanted, values, strict=True):
            # a stranger's value under our key must not stop the stage
            if value is not None and value.isdigit():
                known[key] = max(int(value), known.get(key, 0))
        return known

    async def record(self, fired: Mapping[FireKey, int]) -> None:
        """Remembers the fires, after their alerts are published."""
        self._memory.update(fired)
        if not fired:
            return
        if self._skip():
            self._missed.update(fired)
            return
        try:
            await self._write(fired)
            await self._tell_what_it_missed()
        except (RedisError, OSError, TimeoutError) as error:
            self._missed.update(fired)
            self._lost(error)
        else:
            self._answered()

    def forget(self) -> None:
        """Drops what Redis has too; after a rebalance another worker may have fired meanwhile."""
        if not self.degraded:
            self._memory = dict(self._missed)

    async def _tell_what_it_missed(self) -> None:
        """Other workers may have fired later than this one meanwhile, and the later fire counts."""
        while self._missed:
            part = dict(islice(self._missed.items(), _MISSED_PER_CALL))
            values = await self._redis.mget([self._key(key) for key in part])
            known = {
                key: int(value)
                for key, value in zip(part, values, strict=True)
                if value is not None and value.isdigit()
            }
            await self._write({key: at_ms for key, at_ms in part.items() if at_ms > known.get(key, -1)})
            for key in part:
                del self._missed[key]

    async def _write(self, fired: Mapping[FireKey, int]) -> None:
        keys = [self._key(key) for key in fired]
        await self._redis.eval(_SET_ALL, len(keys), *keys, _KEPT_S, *fired.values())

    def _skip(self) -> bool:
        if self.degraded:
            alert_metrics().cooldown_fallbacks.inc()
            return True
        return False

    def _answered(self) -> None:
        alert_metrics().cooldown_degraded.set(0)

    def _lost(self, error: Exception) -> None:
        alert_metrics().cooldown_fallbacks.inc()
        alert_metrics().cooldown_degraded.set(1)
        self._away_until_s = time.monotonic() + _RETRY_AFTER_S
        log.warning(
            "redis_unreachable", error=repr(error), policy="own memory; duplicates rather than misses"
        )

    def _key(self, key: FireKey) -> str:
        return self._settings.name(f"cooldown:{key[0]}:{key[1]}")
