"""The servers that `screener up` started itself: restarted when they end, with the roles that depend on them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from nats.errors import Error as NatsError
from prometheus_client import CollectorRegistry
from psycopg import AsyncConnection
from redis.exceptions import RedisError

from app.alerts.cooldowns import LONGEST_KEPT_MS, Cooldowns
from app.clock import SystemClock
from app.database.alert_history import last_fires, latest_seq
from app.database.connection import connection_url
from app.errors import PortTaken, ScreenerError, ServerDied
from app.local.servers.embedded import EmbeddedStack
from app.process.children.restarts import Restarts
from app.process.children.supervisor import RoleProcesses
from app.process.health.probes import PROBES
from app.process.tasks import ended
from app.rules.rule import Mode
from app.settings.access import AllServers, PostgresAccess, RedisAccess
from app.telemetry import alert_metrics
from app.wire.kafka import ensure_topics
from app.wire.nats.stream import connect, probe_stream, rewind
from app.wire.redis import connect_redis
from app.wire.retry import OutageLog, retried

_POLL_S = 0.1
_STORED_EVERY_S = 5.0
_PROBE_S = 5.0
_REFUSALS = 3
_ROOM_BYTES = 4 * 1024 * 1024
_REWIND_S = 900.0
"""How far records are computed again after the embedded broker ended: records that were not stored yet are younger,
unless a stage was further behind. Forming candles are kept on NATS for the same time."""
_SEQ_GAP = 100_000
"""More alerts than a broker can have numbered that the database has not stored yet."""
_REDIS_WAIT_S = 30.0
_KAFKA_ROLES = frozenset({"feed", "bridge", "all", "market", "sinks", "webhooks", "sidecar"})

log = structlog.get_logger("supervisor")


async def first_seq(postgres: PostgresAccess) -> int:
    """Return the first alert number for a new embedded broker: after the stored alerts; 0 without any."""
    async with await AsyncConnection.connect(connection_url(postgres)) as connection:
        latest = await latest_seq(connection)
    return 0 if latest is None else latest + 1


async def rewind_cooldowns(
    postgres: PostgresAccess, access: RedisAccess, alert_mode: Mode, time_ms: int
) -> None:
    """Set the cooldowns to the fires before `time_ms`, whose alerts the database has.

    Workers must not run. Raises RedisError, psycopg.OperationalError, OSError or TimeoutError while a server is
    down.
    """
    async with await AsyncConnection.connect(connection_url(postgres)) as connection:
        fired = await last_fires(connection, time_ms - LONGEST_KEPT_MS, time_ms, alert_mode)
    redis = connect_redis(access.url)
    try:
        # metrics of a command, which no Prometheus reads
        metrics = alert_metrics(CollectorRegistry())
        await Cooldowns(redis, access.namespace, metrics).replace(fired)
    finally:
        await redis.aclose()


@dataclass(slots=True)
class ServerWatch:
    """Restarts servers that end: on the same port, with their data.

    The embedded broker has no data: when it ends, every stage stops too. Roles restart on an empty broker, and the
    bridge goes back on NATS by a quarter of an hour, so that records under way are computed again; alerts that were
    stored already come again under the same id. Cooldowns go back as far: with the recorded cooldowns, alerts that
    were lost with the broker before they were stored would count as decided, and never come.
    """

    servers: AllServers
    alert_mode: Mode
    stack: EmbeddedStack
    roles: RoleProcesses
    _ends: dict[str, Restarts] = field(default_factory=dict)
    _reviving: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    @property
    def restarts(self) -> int:
        return sum(ends.count for ends in self._ends.values())

    @property
    def away(self) -> Collection[str]:
        """Servers that are being restarted."""
        return self._reviving.keys()

    async def watch(self) -> None:
        """Run until cancelled. Raises ServerDied, with the end of its log, for a server that ends eight times in a row
        within seconds of its start."""
        started_s = asyncio.get_running_loop().time()
        self._ends = {name: Restarts(started_s) for name in self.stack.processes}
        looking = asyncio.create_task(self._look_after_nats(), name="look-after-nats")
        try:
            while True:
                self._collect()
                for name, fault in self._ended().items():
                    if name not in self._reviving:
                        log.warning("server_ended", server=name, fault=str(fault).splitlines()[0])
                        self._reviving[name] = asyncio.create_task(
                            self._revive(name, fault), name=f"revive-{name}"
                        )
                await asyncio.sleep(_POLL_S)
        finally:
            await ended(looking, *self._reviving.values())

    async def _look_after_nats(self) -> None:
        """End NATS, so that it is restarted, once a full disk has room again: after a full disk it refuses messages for
        good."""
        refusals = 0
        while "nats" in self.stack.processes:
            await asyncio.sleep(_STORED_EVERY_S)
            refusals = refusals + 1 if await self._refuses() else 0
            if refusals >= _REFUSALS and "nats" not in self._reviving:
                free_bytes = shutil.disk_usage(self.stack.directory).free
                log.warning("server_refuses", server="nats", free_bytes=free_bytes)
                if free_bytes > _ROOM_BYTES:
                    refusals = 0
                    self.stack.processes["nats"].ask_to_stop()

    async def _refuses(self) -> bool:
        """Return whether NATS answers but stores nothing; False if it does not answer."""
        try:
            async with asyncio.timeout(_PROBE_S):
                await probe_stream(self.servers.nats)
        except (NatsError, ScreenerError, TimeoutError, OSError):
            try:
                async with asyncio.timeout(_PROBE_S):
                    await PROBES["nats"](self.stack.urls["nats"])
            except (NatsError, TimeoutError, OSError):
                return False
            return True
        return False

    def _ended(self) -> Mapping[str, ServerDied]:
        return {name: fault for name in self.stack.processes if (fault := self.stack.fault(name)) is not None}

    def _collect(self) -> None:
        for name, task in list(self._reviving.items()):
            if task.done():
                del self._reviving[name]
                task.result()

    async def _revive(self, name: str, fault: ServerDied) -> None:
        if name == "kafka":
            await self.roles.pause(_KAFKA_ROLES)
        await self._start_again(name, fault)
        if name == "kafka":
            await self._fill_broker()
            self.roles.resume(_KAFKA_ROLES)
        log.warning("server_restarted", server=name)

    async def _start_again(self, name: str, fault: ServerDied) -> None:
        ends, loop = self._ends[name], asyncio.get_running_loop()
        while True:
            ends.note_end(loop.time())
            if ends.hopeless:
                raise fault
            await asyncio.sleep(ends.wait_s(loop.time()))
            ends.note_start(loop.time())
            try:
                await asyncio.to_thread(self.stack.restart, name)
            except (ServerDied, PortTaken) as error:
                fault = ServerDied(str(error))
            else:
                return

    async def _rewind_cooldowns(self) -> None:
        """Rewind the cooldowns; give up after half a minute: an embedded Redis is back by then."""
        since_ms = SystemClock().now_ms() - round(_REWIND_S * 1000)
        postgres, redis, mode = self.servers.postgres, self.servers.redis, self.alert_mode
        with suppress(RedisError, OSError):
            await retried(
                lambda: rewind_cooldowns(postgres, redis, mode, since_ms),
                OutageLog(log, "broker_waits", server="redis"),
                give_up_s=_REDIS_WAIT_S,
            )

    async def _fill_broker(self) -> None:
        """Create topics and refill them. It waits for the other servers, which may be down too."""

        async def fill() -> None:
            await ensure_topics(self.servers.kafka, await first_seq(self.servers.postgres) + _SEQ_GAP)
            client = await connect(self.servers.nats.url, "rewind")
            try:
                await rewind(client, self.servers.nats.namespace, _REWIND_S)
            finally:
                await client.close()
            await self._rewind_cooldowns()

        await retried(fill, OutageLog(log, "broker_waits"))
