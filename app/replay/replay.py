"""One replay: it starts the roles, publishes candles at the wanted speed, drains the pipeline and gathers the facts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from nats.aio.client import Client

from app.candles.batch import CandleBatch
from app.clock import Clock
from app.database.connection import open_pool
from app.database.migrate import migrate_in_thread
from app.database.rule_store import RuleStore
from app.errors import RuleError
from app.process.children.supervisor import RoleProcesses, role_environ
from app.process.drain import MARKET, STAGES, Reports, barrier_passed, nats_drained, send_barrier
from app.process.interrupts import StopEvent, unless_stopped
from app.process.tasks import ended
from app.replay.alerts_out import collect_alerts
from app.replay.namespace import require_fresh_namespace
from app.replay.refused import count_refused
from app.rules.alert import Alert
from app.rules.files import fingerprint
from app.rules.rule import Rule
from app.settings import Settings
from app.settings.access import PostgresAccess
from app.wire.barrier import BEHIND_MARKET, BarrierReports
from app.wire.kafka import ensure_topics, kafka_producer
from app.wire.nats.publish import CandlePublisher, candle_publisher
from app.wire.nats.stream import connect
from app.wire.redis import connect_redis

_ROWS_PER_PUBLISH = 1_000
_CANDLES_AHEAD = 200_000
"""How far publishing may run ahead of the bridge, so that a file of any size needs little of the stream."""
ROLES = ("bridge", "all", "sinks")
"""The role `market` joins them where a rule needs it."""
_EVALUATING = ("alerts", MARKET)

Parts = Callable[[int], Iterator[CandleBatch]]
"""Least rows of a part -> candles in order of time, in parts of whole minutes."""


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """`seconds`: from the first candle published until the last stage had everything in the database. `refused`: reason
    -> candles that bridge or collector rejected."""

    candles: int
    seconds: float
    alerts: list[Alert]
    reports: Reports
    restarts: int
    refused: Mapping[str, int]

    @property
    def candles_per_s(self) -> float:
        return self.candles / self.seconds


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress reports of a replay."""

    phase: Callable[[str], None]
    published: Callable[[int], None]
    """Candles published so far."""


class Replay:
    """Plays candles through the pipeline of `settings`, whose servers run already.

    `settings.namespace` should be one of its own, so that neither old cooldowns nor old topics interfere.
    """

    def __init__(
        self,
        settings: Settings,
        candles: Parts,
        clock: Clock,
        *,
        log_dir: Path,
        speed: float | None = None,
        candles_per_message: int = 100,
        roles: tuple[str, ...] = ROLES,
        rules: Sequence[Rule] | None = None,
    ) -> None:
        """speed: factor of real time; None: as fast as possible. candles_per_message: on NATS. rules: replace the rules
        in the namespace; None keeps these, which are the shipped rules in a new namespace."""
        self._candles_per_message = candles_per_message
        self._servers = settings.servers()
        self._candles = candles
        self._clock = clock
        self._speed = speed
        self._rules = rules
        self.roles = RoleProcesses(role_environ(settings), log_dir, roles)

    async def run(self, progress: Progress, stop: StopEvent | None = None) -> ReplayResult:
        """Run all roles for the replay, and stop them however it ends. Raises ServerDied if one cannot run, Interrupted
        once `stop` is set."""
        try:
            return await unless_stopped(stop or StopEvent(), self._run(progress))
        finally:
            # here, and not in `_run`: a stop may take longer than cancelled work may
            await self.roles.stop()

    async def _run(self, progress: Progress) -> ReplayResult:
        async with AsyncExitStack() as exits:
            progress.phase("starting")
            await migrate_in_thread(self._servers.postgres)
            await ensure_topics(self._servers.kafka)
            await require_fresh_namespace(self._servers.nats, self._servers.kafka)
            rules = await _rules_in_place(self._servers.postgres, self._rules)
            if any(rule.looks_at_market for rule in rules) and MARKET not in self.roles.roles:
                self.roles.roles = (*self.roles.roles, MARKET)
            producer = await exits.enter_async_context(kafka_producer(self._servers.kafka))
            redis = connect_redis(self._servers.redis.url)
            exits.push_async_callback(redis.aclose)
            self.roles.start()
            watching = asyncio.create_task(self.roles.watch(), name="watch-roles")
            playing = asyncio.create_task(
                self._play(producer, BarrierReports(redis, self._servers.redis.namespace), progress),
                name="replay",
            )
            exits.push_async_callback(ended, watching, playing)
            await asyncio.wait({watching, playing}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
            outcome = playing.result()
        _check_rules(outcome.reports, rules)
        return outcome

    async def _play(
        self, producer: AIOKafkaProducer, reports: BarrierReports, progress: Progress
    ) -> ReplayResult:
        await self._barrier(producer, reports, f"start-{uuid4().hex}")
        progress.phase("replaying")
        client = await connect(self._servers.nats.url, "replay-watch")
        try:
            async with candle_publisher(self._servers.nats, "replay", self._candles_per_message) as publisher:
                began_s = time.monotonic()
                candles = await self._publish(publisher, client, progress)
                await publisher.flush()
            progress.phase("draining")
            await nats_drained(client, self._servers.nats.namespace)
        finally:
            await client.close()
        end = f"end-{uuid4().hex}"
        found = await self._barrier(producer, reports, end)
        seconds = time.monotonic() - began_s
        progress.phase("collecting alerts")
        alerts = await collect_alerts(self._servers.kafka, end + BEHIND_MARKET if self._has_market else end)
        refused = await count_refused(self._servers.kafka)
        return ReplayResult(candles, seconds, alerts, found, self.roles.restarts, refused)

    async def _barrier(self, producer: AIOKafkaProducer, reports: BarrierReports, identifier: str) -> Reports:
        await send_barrier(producer, self._servers.kafka, identifier)
        stages = (*STAGES, MARKET) if self._has_market else STAGES
        return await barrier_passed(reports, self._servers.kafka.partitions, identifier, stages)

    @property
    def _has_market(self) -> bool:
        return MARKET in self.roles.roles

    async def _publish(self, publisher: CandlePublisher, client: Client, progress: Progress) -> int:
        """Publish all candles and return their number."""
        published = looked = first_ms = 0
        began_s = time.monotonic()
        for part in self._candles(1 if self._speed else _ROWS_PER_PUBLISH):
            first_ms = first_ms or int(part.open_time_ms[0])
            if self._speed:
                due_s = (int(part.open_time_ms[0]) - first_ms) / 1000 / self._speed
                await asyncio.sleep(max(0.0, began_s + due_s - time.monotonic()))
            await publisher.publish(part)
            published += len(part)
            progress.published(published)
            if published - looked >= _CANDLES_AHEAD // 4:
                looked = published
                await nats_drained(
                    client, self._servers.nats.namespace, _CANDLES_AHEAD // self._candles_per_message
                )
        return published


async def _rules_in_place(postgres: PostgresAccess, rules: Sequence[Rule] | None) -> list[Rule]:
    """Put the given rules, with their own versions, in place of the namespace's; return the enabled rules."""
    async with await open_pool(postgres) as pool:
        store = RuleStore(pool)
        if rules is not None:
            await store.apply((), prune=True)
            await store.apply(rules)
        return [rule for rule in await store.all() if rule.enabled]


def _check_rules(reports: Reports, rules: Sequence[Rule]) -> None:
    """Check that the processes evaluated these rules. Raises RuleError if not: the rules were unreadable or changed."""
    found = {(stage, facts.get("rules")) for (stage, _), facts in reports.items() if stage in _EVALUATING}
    for stage in {stage for stage, _ in found}:
        mine = fingerprint(rule for rule in rules if rule.looks_at_market == (stage == MARKET))
        if {rules for name, rules in found if name == stage} != {mine}:
            raise RuleError(
                "the worker did not evaluate the rules of this replay, so its alerts are not theirs: see its log for "
                "rules_unavailable or rules_changed, and play the file again"
            )
