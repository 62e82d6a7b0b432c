"""When each rule last fired for each symbol: in Redis for all workers, and in the worker's own memory.

Redis is a hint, not the judge: while it does not answer, the worker continues from memory, counts it, and shows
it in `screener_cooldown_degraded`. The next call that Redis answers also writes the fires it missed. The worst
result is a repeated alert, which carries the same id.

Redis is asked only once for a key: until `forget`, no other worker decides about it. Asking again would delay the
hundreds of alerts at the close of a minute by milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.settings.access import Namespace
from app.telemetry import AlertMetrics
from app.wire.retry import OutageLog

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
_RETRY_AFTER_S = 1.0
"""How long Redis is left alone after a failure: one wait per second, not one per frame."""
_MISSED_PER_CALL = 2_000
"""How many fires that Redis missed are written in one call, which must end within the timeout."""
LONGEST_KEPT_MS = _KEPT_S * 1000

log = structlog.get_logger("cooldown")


class Cooldowns:
    """Event times (UTC ms) of the last fire by (rule_type, symbol)."""

    def __init__(self, redis: Redis, namespace: Namespace, metrics: AlertMetrics) -> None:
        self._redis = redis
        self._namespace = namespace
        self._metrics = metrics
        self._memory: dict[FireKey, int] = {}
        self._missed: dict[FireKey, int] = {}
        """Fires in memory that Redis may not have."""
        self._writing: dict[FireKey, int] = {}
        """Fires in memory that `write` has yet to give to Redis."""
        self._asked: set[FireKey] = set()
        self._away_until_s = 0.0
        self._outage = OutageLog(log, "redis_unreachable", policy="own memory; duplicates rather than misses")
        self._metrics.cooldown_degraded.set(0)

    def __len__(self) -> int:
        """Return the number of keys in this worker's memory."""
        return len(self._memory)

    @property
    def degraded(self) -> bool:
        """True while Redis does not answer."""
        return time.monotonic() < self._away_until_s

    async def last_fired(self, keys: Iterable[FireKey]) -> dict[FireKey, int]:
        """Return the last fire of each key that has one: the later of Redis's and this worker's."""
        wanted = dict.fromkeys(keys)
        unasked = [key for key in wanted if key not in self._asked]
        if unasked or (wanted and self._missed):
            await self._ask(unasked)
        return {key: self._memory[key] for key in wanted if key in self._memory}

    async def _ask(self, keys: Sequence[FireKey]) -> None:
        if self._skip():
            return
        try:
            await self._tell_what_it_missed()
            values = await self._redis.mget([self._key(key) for key in keys]) if keys else []
        except (RedisError, OSError, TimeoutError) as error:
            self._lost(error)
            return
        self._answered()
        self._asked.update(keys)
        for key, value in zip(keys, values, strict=True):
            # a stranger's value under our key must not stop the stage
            if value is not None and value.isdigit():
                self._memory[key] = max(int(value), self._memory.get(key, 0))

    async def record(self, fired: Mapping[FireKey, int]) -> None:
        """Remember the fires, after their alerts are published, here and in Redis."""
        self.remember(fired)
        await self.write(fired)

    def remember(self, fired: Mapping[FireKey, int]) -> None:
        """The first half of `record`: `last_fired` knows them from now on."""
        self._memory.update(fired)
        self._writing.update(fired)

    async def write(self, fired: Mapping[FireKey, int]) -> None:
        """Write remembered fires to Redis."""
        if not fired:
            return
        if self._skip():
            self._missed.update(fired)
        else:
            try:
                await self._write(fired)
                await self._tell_what_it_missed()
            except (RedisError, OSError, TimeoutError) as error:
                self._missed.update(fired)
                self._lost(error)
            else:
                self._answered()
        self._writing = {key: at for key, at in self._writing.items() if fired.get(key) != at}

    def forget(self) -> None:
        """Drop the keys that Redis has too; after a rebalance another worker may have fired meanwhile."""
        self._asked.clear()
        if not self.degraded:
            self._memory = self._writing | self._missed

    def forget_symbols(self, symbols: Collection[str]) -> None:
        """Drop the keys of departed symbols, except fires that Redis lacks; in Redis they expire."""
        self._keep(lambda key: key[1] not in symbols)

    def forget_other_rules(self, rule_types: Collection[str]) -> None:
        """Drop the keys of all other rules, except fires that Redis lacks; in Redis they expire."""
        self._keep(lambda key: key[0] in rule_types)

    def _keep(self, kept: Callable[[FireKey], bool]) -> None:
        held = self._writing.keys() | self._missed.keys()
        self._memory = {key: at for key, at in self._memory.items() if key in held or kept(key)}
        self._asked = set(filter(kept, self._asked))

    async def replace(self, fired: Mapping[FireKey, int]) -> None:
        """Make these the only fires that Redis knows. Raises RedisError, OSError or TimeoutError while it is down."""
        async for key in self._redis.scan_iter(match=self._namespace.name("cooldown:*"), count=1_000):
            await self._redis.delete(key)
        items = iter(fired.items())
        while part := dict(islice(items, _MISSED_PER_CALL)):
            await self._write(part)

    async def _tell_what_it_missed(self) -> None:
        """Write the missed fires to Redis, except where another worker has fired later: the later fire counts."""
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
            self._metrics.cooldown_fallbacks.inc()
            return True
        return False

    def _answered(self) -> None:
        self._outage.over()
        self._metrics.cooldown_degraded.set(0)

    def _lost(self, error: Exception) -> None:
        self._metrics.cooldown_fallbacks.inc()
        self._metrics.cooldown_degraded.set(1)
        self._away_until_s = time.monotonic() + _RETRY_AFTER_S
        self._outage.failed(error)

    def _key(self, key: FireKey) -> str:
        return self._namespace.name(f"cooldown:{key[0]}:{key[1]}")
