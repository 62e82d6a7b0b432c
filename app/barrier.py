"""Barriers: a mark sent down the pipeline that tells when everything before it has been dealt with.

A barrier is a Kafka record whose value is `screener-barrier:<id>:<partition>`. Every stage, on reading one,
finishes what came before it on that partition, forwards it to the same partition of its output topic, and
writes a report into the Redis hash `barrier:<id>` under `<stage>:<partition>`. Whoever sent the barrier waits
for the reports it expects: a replay knows that way that all is drained, without asking a broker for lag.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from app.settings import Settings

_MAGIC = b"screener-barrier:"
_PATTERN = re.compile(_MAGIC + rb"(?P<id>[!-9;-~]{1,100}):(?P<partition>[0-9]{1,4})")
_REPORT_TTL_S = 24 * 3600
_TIMEOUT_S = 5.0
_LONGEST_WAIT_S = 5.0

log = structlog.get_logger("barrier")


def connect_barriers(url: str) -> Redis:
    """A patient connection: unlike a cooldown, a report has no other way than Redis."""
    return Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Barrier:
    id: str
    partition: int
    """The ingress partition it was first sent to."""

    def encode(self) -> bytes:
        return _MAGIC + f"{self.id}:{self.partition}".encode()

    @classmethod
    def decode(cls, value: bytes) -> Barrier | None:
        """The barrier in a record's value, or None for every other record."""
        found = _PATTERN.fullmatch(value)
        return None if found is None else cls(found["id"].decode(), int(found["partition"]))


class BarrierReports:
    """The Redis side: stages report, the sender reads."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings

    def _key(self, identifier: str) -> str:
        return self._settings.name(f"barrier:{identifier}")

    async def report(self, barrier: Barrier, stage: str, facts: Mapping[str, Any]) -> None:
        """Says that `stage` is done with all before `barrier`; `facts` is JSON-able. Repeating it is harmless.

        Raises RedisError, OSError or TimeoutError while Redis is away.
        """
        key = self._key(barrier.id)
        await self._redis.hset(key, f"{stage}:{barrier.partition}", orjson.dumps(dict(facts)))
        await self._redis.expire(key, _REPORT_TTL_S)

    async def report_through_outages(self, barrier: Barrier, stage: str, facts: Mapping[str, Any]) -> None:
        """`report`, tried until Redis has it, however long Redis is away: the sender waits for every report."""
        async for attempt in AsyncRetrying(
            wait=wait_exponential_jitter(multiplier=0.1, max=_LONGEST_WAIT_S),
            retry=retry_if_exception_type((RedisError, OSError, TimeoutError)),
            before_sleep=_warn,
        ):
            with attempt:
                await self.report(barrier, stage, facts)

    async def read(self, identifier: str) -> dict[tuple[str, int], dict[str, Any]]:
        """(stage, partition) -> facts, of all reports so far."""
        found: dict[bytes, bytes] = await self._redis.hgetall(self._key(identifier))  # type: ignore[assignment]  # reason: the client does not decode, which its types cannot know
        reports = {}
        for name, value in found.items():
            text = name.decode() if isinstance(name, bytes) else name
            stage, _, partition = text.rpartition(":")
            reports[stage, int(partition)] = orjson.loads(value)
        return reports


def _warn(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("barrier_report_waits", error=repr(error), attempt=state.attempt_number)
