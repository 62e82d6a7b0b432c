"""A server that is away for a while leaves a few lines in the log of each role, not thousands."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from app.candles.batch import MINUTE_MS
from app.errors import ServerUnreachable
from app.local.servers.embedded import EmbeddedStack
from app.role_health import dependencies_of
from app.settings import Settings
from app.wire.kafka import ensure_topics
from tests.support.database import MIDNIGHT_MS, candles
from tests.support.eventually import eventually
from tests.support.live_pipeline import LivePipeline, live_pipeline
from tests.support.replays import replay_settings
from tests.support.servers import settings_for

pytestmark = pytest.mark.slow

AWAY_S = 10.0
"""Less than the half minute after which a worker ends; enough for hundreds of attempts to connect."""
NOTED = ("warning", "error", "critical")


def lines(log: Path) -> list[dict[str, Any]]:
    """Each must be JSON, also those of libraries."""
    return [orjson.loads(line) for line in log.read_bytes().splitlines()]


def said(log: Path, since: int, event: str) -> bool:
    return any(line["event"] == event for line in lines(log)[since:])


def noted(log: Path, since: int) -> Counter[tuple[str, str]]:
    """(logger, level) -> lines, of warnings and errors."""
    found = [line for line in lines(log)[since:] if line["level"] in NOTED]
    return Counter((line["logger"].partition(".")[0], line["level"]) for line in found)


def needed_by(role: str, settings: Settings) -> set[str]:
    names = ("collector", "calculator", "alerts") if role == "all" else (role,)
    return {dependency.name for dependency in dependencies_of(names, settings)}


@dataclass
class Watched:
    """A pipeline on servers of its own, and the minute that its next candle is of."""

    stack: EmbeddedStack
    pipeline: LivePipeline
    logs: dict[str, Path]
    minute: int = 0

    async def publish(self, for_s: float) -> None:
        """Ten candles a second."""
        for _ in range(round(10 * for_s)):
            await self.pipeline.publish(candles(["AUSDT"], 1, MIDNIGHT_MS + self.minute * MINUTE_MS))
            self.minute += 1
            await asyncio.sleep(0.1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    """One for all servers: each test leaves its server running and the roles well."""
    directory = tmp_path_factory.mktemp("outages")
    with EmbeddedStack.start(directory / "stack") as stack:
        settings = replay_settings(settings_for(stack.urls, log_format="json", data_dir=directory / "data"))
        async with live_pipeline(settings, directory / "logs") as pipeline:
            logs = {role: directory / "logs" / f"{role}.log" for role in pipeline.roles.processes}
            yield Watched(stack, pipeline, logs)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("server", ["kafka", "nats", "redis", "postgres"])
async def test_a_server_that_is_away_is_told_when_it_goes_and_when_it_is_back(
    server: str, watched: Watched
) -> None:
    logs, settings = watched.logs, watched.pipeline.settings
    before = {role: len(lines(log)) for role, log in logs.items()}
    affected = [role for role in logs if server in needed_by(role, settings)]
    assert affected

    watched.stack.processes[server].kill()
    await watched.publish(AWAY_S)
    await eventually(lambda: all(said(logs[role], before[role], "dependency_down") for role in affected))
    counted = {role: noted(log, before[role]) for role, log in logs.items()}

    watched.stack.processes[server].start()
    if server == "kafka":
        # it keeps nothing
        await eventually(lambda: topics_are_back(settings), 30)
    await eventually(lambda: all(said(logs[role], before[role], "dependency_up") for role in affected), 60)
    for role, found in counted.items():
        # one of each level of each logger, and the second of a minute that ended meanwhile
        assert max(found.values(), default=0) <= 2, (role, found)
        assert found.total() <= 6, (role, found)


async def topics_are_back(settings: Settings) -> bool:
    try:
        await ensure_topics(settings.kafka())
    except ServerUnreachable:
        return False
    return True
