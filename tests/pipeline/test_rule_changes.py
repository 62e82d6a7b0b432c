"""Rules changed by plain SQL while two workers share the market: both follow, and what rules remember stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from app.database.connection import connection_url, open_pool
from app.database.migrate import migrate
from app.database.rule_store import RuleStore
from app.process.children.supervisor import RoleProcesses, role_environ
from app.process.drain import barrier_passed
from app.rules.alert import alert_id
from app.rules.rule import Rule
from app.settings import Settings
from app.wire.barrier import Barrier, BarrierReports, connect_barriers
from app.wire.kafka import ensure_topics, kafka_producer
from app.wire.topics import Topics, shard_of
from tests.support.database import MIDNIGHT_MS
from tests.support.eventually import eventually
from tests.support.metric_batches import publish_metrics
from tests.support.replays import published_alerts, replay_settings

SYMBOLS = ("BTCUSDT", "ETHUSDT")
UP = "price_change_1m > 1"
RULES = (
    Rule("echo", UP, "low", cooldown_s=0),
    Rule("held", UP, "low", cooldown_s=0, hold_s=120),
    Rule("once", UP, "low", cooldown_s=3600),
    Rule("rising", "price_change_1m > prev(price_change_1m)", "low", cooldown_s=0),
)


class Workers:
    """Two alert workers of one group, with a partition each."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings = settings
        self._logs = [directory / name for name in ("one", "two")]
        self.roles = [RoleProcesses(role_environ(settings), log_dir, ["alerts"]) for log_dir in self._logs]

    def log(self, worker: int) -> str:
        path = self._logs[worker] / "alerts.log"
        return path.read_text(errors="replace") if path.exists() else ""

    async def until_logged(self, *words: str, workers: tuple[int, ...] = (0, 1)) -> None:
        """Returns when the last line with the first word, of each worker's log, has the other words too."""

        def logged() -> bool:
            for worker in workers:
                lines = [line for line in self.log(worker).splitlines() if words[0] in line]
                if not lines or not all(word in lines[-1] for word in words):
                    return False
            return True

        try:
            await eventually(logged, within_s=60)
        except AssertionError:
            raise AssertionError(f"{words}\n" + "\n".join(self.log(worker) for worker in workers)) from None

    async def minute(self, minute: int, price_change: float) -> set[tuple[str, str]]:
        """(rule_type, symbol) of the alerts that this minute of both symbols gives."""
        time_ms = MIDNIGHT_MS + minute * 60_000
        await publish_metrics(
            self.settings,
            [(symbol, time_ms, {"price_change_1m": price_change, "close_1m": 1.0}) for symbol in SYMBOLS],
        )
        await self._dealt_with()
        return {(alert["rule_type"], alert["symbol"]) for alert in await self._alerts(time_ms)}

    async def _dealt_with(self) -> None:
        """Returns when the workers have passed a barrier behind all that was published."""
        identifier = uuid4().hex
        async with kafka_producer(self.settings.kafka()) as producer:
            for partition in range(self.settings.partitions):
                value = Barrier(identifier, partition).encode()
                await producer.send_and_wait(
                    Topics.of(self.settings.names()).metrics, value, partition=partition
                )
        redis = connect_barriers(self.settings.server_urls().redis)
        try:
            async with asyncio.timeout(60):
                await barrier_passed(
                    BarrierReports(redis, self.settings.names()),
                    self.settings.partitions,
                    identifier,
                    ["alerts"],
                )
        finally:
            await redis.aclose()

    async def _alerts(self, time_ms: int) -> list[dict[str, Any]]:
        identifiers = {
            alert_id(alert["rule_type"], alert["rule_version"], alert["symbol"], time_ms): alert
            for alert in await published_alerts(self.settings)
        }
        return [alert for identifier, alert in identifiers.items() if alert["id"] == identifier]


@pytest.fixture
async def workers(settings: Settings, tmp_path: Path) -> AsyncIterator[Workers]:
    settings = replay_settings(settings, data_dir=tmp_path)
    assert {shard_of(symbol, settings.partitions) for symbol in SYMBOLS} == {0, 1}
    await asyncio.to_thread(migrate, settings.postgres())
    await ensure_topics(settings.kafka())
    async with await open_pool(settings.postgres()) as pool:
        await RuleStore(pool).apply(RULES, prune=True)
    both = Workers(settings, tmp_path)
    async with AsyncExitStack() as exits:
        for roles in both.roles:
            exits.push_async_callback(roles.stop)
            roles.start()
        await eventually(
            lambda: sorted(map(partitions, (both.log(0), both.log(1)))) == ["[0]", "[1]"], within_s=60
        )
        yield both


def partitions(log: str) -> str:
    """The partitions that a worker says it has."""
    told = [line for line in log.splitlines() if "partitions_assigned" in line]
    return told[-1].split("partitions=")[1].split("]")[0] + "]" if told else ""


def changed_by_sql(settings: Settings) -> None:
    with (
        psycopg.connect(connection_url(settings.postgres()), autocommit=True) as connection,
        connection.transaction(),
    ):
        connection.execute(
            "UPDATE alert_rules SET expression = 'price_change_1m > 3' WHERE rule_type = 'echo'"
        )
        connection.execute("UPDATE alert_rules SET severity = 'high' WHERE rule_type = 'once'")
        connection.execute(
            "INSERT INTO alert_rules (rule_type, expression, severity, cooldown_s) VALUES"
            " ('added', 'price_change_1m > 1', 'info', 0), ('broken', 'price_change_1m >', 'info', 0)"
        )


def of_both(*rule_types: str) -> set[tuple[str, str]]:
    return {(rule_type, symbol) for rule_type in rule_types for symbol in SYMBOLS}


async def test_every_worker_takes_over_changed_rules_and_no_rule_forgets_what_it_knew(
    workers: Workers,
) -> None:
    assert await workers.minute(0, 2.0) == of_both("echo", "once")
    assert await workers.minute(1, 2.1) == of_both("echo", "rising")

    await asyncio.to_thread(changed_by_sql, workers.settings)
    await workers.until_logged("rules_changed", "added", "echo", "once", "enabled=5")
    await workers.until_logged("rule_refused", "broken", "found the end")

    assert await workers.minute(2, 2.2) == of_both("added", "held", "rising")
    [louder] = [rule for rule in await stored(workers.settings) if rule.rule_type == "once"]
    assert louder == replace(RULES[2], severity="high")

    await workers.roles[1].stop()
    await workers.until_logged("partitions_assigned", "partitions=[0, 1]", workers=(0,))
    assert await workers.minute(3, 2.3) == of_both("added", "held", "rising")
    assert await workers.minute(4, 3.1) == of_both("added", "echo", "held", "rising")
    versions = {
        alert["rule_type"]: alert["rule_version"] for alert in await published_alerts(workers.settings)
    }
    assert versions == {"echo": 2, "once": 1, "rising": 1, "added": 1, "held": 1}


async def stored(settings: Settings) -> list[Rule]:
    async with await open_pool(settings.postgres()) as pool:
        return await RuleStore(pool).all()
