"""Barriers reported to a real Redis, also to one that is away for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from agents.stage import Stage
from app.clock import ManualClock
from app.local.servers.embedded import EmbeddedStack
from app.process.faust_worker.stage_edges import StageEdges
from app.process.quarantine import Attempts
from app.telemetry import pipeline_metrics
from app.wire.barrier import Barrier, BarrierReports, connect_barriers
from app.wire.dead_letters import DeadLetters
from tests.support.eventually import eventually
from tests.support.metric_values import UNREAD
from tests.support.servers import settings_for

BARRIER = Barrier("end", 1)


class Idle(Stage):
    """A stage that does nothing with frames."""

    name = "collector"

    async def handle(self, partition: int, data: bytes) -> None: ...

    def forget(self, partition: int) -> None: ...

    def restore(self, partitions: Collection[int]) -> None: ...


async def test_a_stage_holds_a_barrier_until_redis_is_back_and_then_passes_it_on(tmp_path: Path):
    with EmbeddedStack.start(tmp_path, ["redis"]) as stack:
        redis = connect_barriers(stack.urls["redis"])
        reports = BarrierReports(redis, settings_for(stack.urls).names())
        delivered: list[tuple[int, bytes]] = []

        async def deliver(partition: int, value: bytes) -> None:
            delivered.append((partition, value))

        async def no_letters(value: bytes) -> None:
            raise AssertionError("a barrier is no dead letter")

        clock = ManualClock(0)
        attempts = Attempts(tmp_path, "collector", pipeline_metrics(UNREAD))
        letters = DeadLetters("collector", no_letters, clock, pipeline_metrics(UNREAD))
        no_minutes: Any = None
        stage = Idle(no_minutes, StageEdges(deliver, letters, reports, attempts, clock, UNREAD))
        stack.processes["redis"].kill()
        with capture_logs() as logs:
            passing = asyncio.create_task(stage._process(1, BARRIER.encode()))
            await eventually(lambda: reports.outage.failures >= 2)
        assert [log["event"] for log in logs] == ["barrier_report_waits"]
        assert not passing.done()
        assert not delivered

        stack.processes["redis"].start()
        await asyncio.wait_for(passing, 30)
        assert delivered == [(1, BARRIER.encode())]
        found = await reports.read("end")
        assert found["collector", 1]["frames"] == 0
        await redis.aclose()
