"""Barriers: a mark sent down the pipeline that tells when everything before it is done.

A barrier is a Kafka record whose value is `screener-barrier:<id>:<partition>`. Every stage, on reading one,
finishes the records before it on that partition, forwards it to the same partition of its output topic, and
writes a report into the Redis hash `barrier:<id>` under `<stage>:<partition>`. The sender of the barrier waits
for the reports it expects: a replay knows from them that all is drained, without asking a broker for lag.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Final, TypedDict

import numpy as np
import orjson
import structlog
from redis.asyncio import Redis

from app.settings.access import Namespace
from app.wire.retry import OutageLog, retried

BEHIND_MARKET: Final = "+market"
"""End of the id of a barrier that the market role puts on [alerts], behind its own alerts from before the barrier: the
barrier that the alert agent forwards may be ahead of these alerts."""
_MAGIC = b"screener-barrier:"
_PATTERN = re.compile(_MAGIC + rb"(?P<id>[!-9;-~]{1,100}):(?P<partition>[0-9]{1,4})")
_REPORT_TTL_S = 24 * 3600
_TIMEOUT_S = 5.0

log = structlog.get_logger("barrier")


def connect_barriers(url: str) -> Redis:
    """Return a patient connection: unlike a cooldown, a report has no other way than Redis."""
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
        """Return the barrier in a record's value, or None for any other record."""
        found = _PATTERN.fullmatch(value)
        return None if found is None else cls(found["id"].decode(), int(found["partition"]))


class StageFacts(TypedDict, total=False):
    """What a stage did on a partition between two barriers.

    p50_ms, p99_ms: quantiles of the latency, None without records. duplicates, gaps: candles left out, and missing
    minutes. rules: fingerprint of the rules in force.
    """

    frames: int
    rows: int
    p50_ms: float | None
    p99_ms: float | None
    duplicates: int
    gaps: int
    rules: str


def latency_facts(latencies_ms: Collection[int]) -> StageFacts:
    """Return the quantiles of the latencies."""
    if not latencies_ms:
        return {"p50_ms": None, "p99_ms": None}
    p50, p99 = np.percentile(np.array(latencies_ms), [50, 99]).tolist()
    return {"p50_ms": p50, "p99_ms": p99}


class BarrierReports:
    """The Redis side: stages report, the sender reads."""

    def __init__(self, redis: Redis, namespace: Namespace) -> None:
        self._redis = redis
        self._namespace = namespace
        self.outage = OutageLog(log, "barrier_report_waits")

    def _key(self, identifier: str) -> str:
        return self._namespace.name(f"barrier:{identifier}")

    async def report(self, barrier: Barrier, stage: str, facts: StageFacts) -> None:
        """Report that `stage` has finished everything before `barrier`. Repeating it is harmless.

        Raises RedisError, OSError or TimeoutError while Redis is down.
        """
        key = self._key(barrier.id)
        await self._redis.hset(key, f"{stage}:{barrier.partition}", orjson.dumps(facts))
        await self._redis.expire(key, _REPORT_TTL_S)

    async def report_through_outages(self, barrier: Barrier, stage: str, facts: StageFacts) -> None:
        """Call `report` until Redis has it, however long Redis is down: the sender waits for every report."""
        await retried(partial(self.report, barrier, stage, facts), self.outage)

    async def read(self, identifier: str) -> dict[tuple[str, int], StageFacts]:
        """Return (stage, partition) -> facts, for all reports so far."""
        found: dict[bytes, bytes] = await self._redis.hgetall(self._key(identifier))  # type: ignore[assignment]  # reason: the client does not decode, which its types cannot know
        reports: dict[tuple[str, int], StageFacts] = {}
        for name, value in found.items():
            text = name.decode() if isinstance(name, bytes) else name
            stage, _, partition = text.rpartition(":")
            reports[stage, int(partition)] = orjson.loads(value)
        return reports
