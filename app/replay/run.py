"""One replay: roles started, candles published at the wanted speed, all drained, facts gathered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from nats.aio.client import Client

from app.barrier import BarrierReports
from app.candles.batch import CandleBatch
from app.clock import Clock
from app.cooldown import connect_redis
from app.database.connection import open_pool
from app.database.migrate import migrate
from app.database.rule_store import RuleStore
from app.errors import RuleError
from app.ingress.publish import CandlePublisher, candle_publisher
from app.ingress.pull import connect
from app.kafka import ensure_topics, kafka_producer
from app.replay.alerts_out import collect_alerts
from app.replay.drain import Reports, barrier_passed, nats_drained, send_barrier
from app.replay.file import by_minutes
from app.replay.fresh import require_fresh_namespace
from app.rules.files import fingerprint
from app.rules.rule import Rule
from app.settings import Settings
from app.supervisor import RoleProcesses

_ROWS_PER_PUBLISH = 1_000
_CANDLES_AHEAD = 200_000
"""How far publishing may run ahead of the bridge, so that a file of any size needs little of the stream."""
ROLES = ("bridge", "all", "sinks")


@dataclass(frozen=True, slots=True)
class Outcome:
    """`seconds`: from the first candle published until the last stage had everything in the database."""

    candles: int
    seconds: float
    alerts: list[dict[str, Any]]
    reports: Reports
    restarts: int

    @property
    def candles_per_s(self) -> float:
        return self.candles / self.seconds


@dataclass(frozen=True, slots=True)
class Progress:
    """What a replay tells while it runs."""

    phase: Callable[[str], None]
    published: Callable[[int], None]
    """Candles published so far."""


class Replay:
    """Plays `candles` through the pipeline of `settings`, whose servers run already.

    `settings.namespace` should be one of its own, so that neither old cooldowns nor old topics meddle.
    """

    def __init__(
        self,
        settings: Settings,
        candles: CandleBatch,
        clock: Clock,
        *,
        log_dir: Path,
        speed: float | None = None,
        candles_per_message: int = 100,
        roles: tuple[str, ...] = ROLES,
        rules: Sequence[Rule] | None = None,
    ) -> None:
        """speed: how many times real time, None as fast as it goes. candles_per_message: on NATS.
        rules: take the place of those in the namespace; None leaves them, which are the shipped ones if it is new.
        """
        self._candles_per_message = candles_per_message
        self._settings = settings
        self._candles = candles
        self._clock = clock
        self._speed = speed
        self._rules = rules
        self.roles = RoleProcesses(settings, log_dir, roles)

    async def run(self, progress: Progress) -> Outcome:
        """Raises ServerDied if a role cannot run; stops all roles in the end, however it ends."""
        async with AsyncExitStack() as exits:
            progress.phase("starting")
            await asyncio.to_thread(migrate, self._settings)
            await ensure_topics(self._settings)
            await require_fresh_namespace(self._settings)
            rules = await _rules_in_place(self._settings, self._rules)
            producer = await exits.enter_async_context(kafka_producer(self._settings))
            redis = connect_redis(self._settings.server_urls().redis)
            exits.push_async_callback(redis.aclose)
            exits.push_async_callback(self.roles.stop)
            self.roles.start()
            watching = asyncio.create_task(self.roles.watch(), name="watch-roles")
            exits.callback(watching.cancel)
            playing = asyncio.create_task(
                self._play(producer, BarrierReports(redis, self._settings), progress), name="replay"
            )
            exits.callback(playing.cancel)
            await asyncio.wait({watching, playing}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
            outcome = playing.result()
        _check_rules(outcome.reports, rules)
        return outcome

    async def _play(self, producer: AIOKafkaProducer, reports: BarrierReports, progress: Progress) -> Outcome:
        await self._barrier(producer, reports, f"start-{uuid4().hex}")
        progress.phase("replaying")
        client = await connect(self._settings, "replay-watch")
        try:
            async with candle_publisher(self._settings, "replay", self._candles_per_message) as publisher:
                began_s = time.monotonic()
                await self._publish(publisher, client, progress)
                await publisher.flush()
            progress.phase("draining")
            await nats_drained(client, self._settings)
        finally:
            await client.close()
        end = f"end-{uuid4().hex}"
        found = await self._barrier(producer, reports, end)
        seconds = time.monotonic() - began_s
        progress.phase("collecting alerts")
        alerts = await collect_alerts(self._settings, end)
        return Outcome(len(self._candles), seconds, alerts, found, self.roles.restarts)

    async def _barrier(self, producer: AIOKafkaProducer, reports: BarrierReports, identifier: str) -> Reports:
        await send_barrier(producer, self._settings, identifier)
        return await barrier_passed(reports, self._settings, identifier)

    async def _publish(self, publisher: CandlePublisher, client: Client, progress: Progress) -> None:
        published = looked = 0
        first_ms = int(self._candles.open_time_ms[0]) if len(self._candles) else 0
        began_s = time.monotonic()
        for part in by_minutes(self._candles, 1 if self._speed else _ROWS_PER_PUBLISH):
            if self._speed:
                due_s = (int(part.open_time_ms[0]) - first_ms) / 1000 / self._speed
                await asyncio.sleep(max(0.0, began_s + due_s - time.monotonic()))
            await publisher.publish(part)
            published += len(part)
            progress.published(published)
            if published - looked >= _CANDLES_AHEAD // 4:
                looked = published
                await nats_drained(client, self._settings, _CANDLES_AHEAD // self._candles_per_message)


async def _rules_in_place(settings: Settings, rules: Sequence[Rule] | None) -> str:
    """The fingerprint of the enabled rules, once the namespace has them as given: with their own versions."""
    async with await open_pool(settings) as pool:
        store = RuleStore(pool)
        if rules is not None:
            await store.apply((), prune=True)
            await store.apply(rules)
        return fingerprint(rule for rule in await store.all() if rule.enabled)


def _check_rules(reports: Reports, expected: str) -> None:
    """Raises RuleError if a worker evaluated others, because it could not read them or somebody changed them."""
    found = {facts.get("rules") for (stage, _), facts in reports.items() if stage == "alerts"}
    if found != {expected}:
        raise RuleError(
            "the worker did not evaluate the rules of this replay, so its alerts are not theirs: see its log for "
            "rules_unavailable or rules_changed, and play the file again"
        )
