"""The state of everything the screener depends on, as this sidecar sees it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.clock import Clock
from app.errors import ServerUnreachable
from app.health.loop_probe import LoopProbe
from app.sidecar.database import Database
from app.sidecar.feeds import MetricsFeed
from app.sidecar.follower import TopicFollower
from app.sidecar.limits import SidecarLimits
from app.sidecar.times import rfc3339
from app.telemetry import RuntimeMetrics

STAGES: Final = ("bridge", "collector", "calculator")
"""Those whose times frames of metrics carry."""
NEEDED: Final = frozenset({"kafka", "nats", "postgres"})
"""Without these the screener does not work. Without Redis it goes on from memory."""
_NATS_PORT = 4222
_RECHECK_S = 0.5
"""Something that is down is asked more often."""

log = structlog.get_logger("sidecar.health")

Check = Callable[[], Awaitable[None]]
"""Returns when the dependency answers; raises one of _FAULTS when it does not."""
_FAULTS = (OSError, TimeoutError, asyncio.IncompleteReadError, RedisError, ServerUnreachable, ssl.SSLError)


async def ask_nats(urls: str) -> None:
    """Returns when one of the comma separated servers greets as NATS does."""
    fault: Exception | None = None
    for url in urls.split(","):
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        try:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or _NATS_PORT)
            try:
                if await reader.readexactly(5) == b"INFO ":
                    return
                fault = ServerUnreachable("something else than NATS listens there")
            finally:
                writer.close()
        except (OSError, asyncio.IncompleteReadError) as error:
            fault = error
    raise fault or ServerUnreachable("no NATS server is named")


class Health:
    """Checks the dependencies now and then; answers from what it found last."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        followers: Sequence[TopicFollower],
        metrics_feed: MetricsFeed,
        limits: SidecarLimits,
        clock: Clock,
        metrics: RuntimeMetrics,
    ) -> None:
        self._metrics = metrics
        self._checks = checks
        self._followers = followers
        self._metrics_feed = metrics_feed
        self._limits = limits
        self._clock = clock
        self._up = dict.fromkeys(checks, False)
        self.stopping = False
        self.probe: LoopProbe | None = None
        """Of this process's event loop, once there is one."""

    async def run(self) -> None:
        """Checks for ever; ends by cancellation."""
        while True:
            await asyncio.gather(*(self._check(name, check) for name, check in self._checks.items()))
            fine = all(self._up.values())
            await asyncio.sleep(self._limits.dependency_check_s if fine else _RECHECK_S)

    @property
    def live(self) -> bool:
        """Whether the event loop turns."""
        return self.probe is None or self.probe.turns

    @property
    def ready(self) -> bool:
        """Whether clients can be served: both topics are being followed and the database answers."""
        return (
            not self.stopping
            and self._up.get("postgres", False)
            and all(follower.connected and follower.caught_up for follower in self._followers)
        )

    def report(self) -> tuple[dict[str, Any], bool]:
        """(what /api/health answers, whether all that is needed is up)."""
        up = {"kafka": all(follower.connected for follower in self._followers), **self._up}
        stages = {stage: self._stage(stage) for stage in STAGES}
        works = all(up[name] for name in NEEDED)
        fine = works and all(up.values()) and all(stage["state"] == "fresh" for stage in stages.values())
        return {
            "status": "ok" if fine else "degraded" if works else "down",
            "time": rfc3339(self._clock.now_ms()),
            "dependencies": {
                name: {"state": "up" if is_up else "down", "needed": name in NEEDED}
                for name, is_up in sorted(up.items())
            },
            "stages": stages,
        }, works

    def _stage(self, stage: str) -> dict[str, Any]:
        sent_ts_ms = self._metrics_feed.stage_ts_ms.get(stage)
        if sent_ts_ms is None:
            return {"state": "silent", "last_sent": None, "age_s": None}
        age_s = max(0, self._clock.now_ms() - sent_ts_ms) / 1000
        state = "fresh" if age_s <= self._limits.stale_after_s else "stale"
        return {"state": state, "last_sent": rfc3339(sent_ts_ms), "age_s": age_s}

    async def _check(self, name: str, check: Check) -> None:
        try:
            async with asyncio.timeout(self._limits.dependency_timeout_s):
                await check()
        except _FAULTS as error:
            if self._up[name]:
                log.warning("dependency_down", dependency=name, fault=repr(error))
            self._up[name] = False
        else:
            if not self._up[name]:
                log.info("dependency_up", dependency=name)
            self._up[name] = True
        self._metrics.dependency_up.labels(name).set(float(self._up[name]))


def dependency_checks(nats_urls: str, redis: Redis, database: Database) -> dict[str, Check]:
    async def check_nats() -> None:
        await ask_nats(nats_urls)

    async def check_redis() -> None:
        await redis.ping()

    return {"nats": check_nats, "redis": check_redis, "postgres": database.ping}
