"""A rule that raises is off in its worker until it is edited, and everybody can see which, where and why."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

import app.rules.language.functions
import app.sidecar.rest.explain
from agents.alerts import Alerts
from app.alerts.cooldowns import Cooldowns
from app.alerts.rule_watch import RuleWatch
from app.alerts.switched_off import SwitchedOffBoard
from app.clock import SystemClock
from app.process.faust_worker.stage_edges import StageEdges
from app.process.quarantine import Attempts
from app.rules.rule import Rule
from app.settings import Settings
from app.telemetry import alert_metrics, pipeline_metrics
from app.wire.frames import FrameInfo, encode_metrics
from app.wire.redis import connect_redis
from tests.support.eventually import eventually
from tests.support.metric_rows import Row, metrics_batch
from tests.support.metric_values import value_of
from tests.support.rule_watches import rule_watch
from tests.support.sidecar import prepare, running_sidecar
from tests.support.tokens import SECRET, bearer

REGISTRY = CollectorRegistry()
METRICS = alert_metrics(REGISTRY)

ADMIN = bearer("root", admin=True)
BREAKING = {"rule_type": "breaking", "expression": "abs(price) > 1", "severity": "high"}
GOOD = {"rule_type": "good", "expression": "price > 1", "severity": "high", "cooldown_s": 0}


@pytest.fixture
async def ready(settings: Settings, tmp_path: Path) -> Settings:
    await prepare(settings)
    return Settings.model_validate({**settings.model_dump(), "jwt_secret": SECRET, "data_dir": tmp_path})


@pytest.fixture
def abs_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*values: object) -> None:
        raise ZeroDivisionError("abs is broken")

    monkeypatch.setitem(app.rules.language.functions.KERNELS, "abs", broken)


class Worker:
    """The alert stage with its real rules, cooldowns and board; records go in and out by hand."""

    def __init__(self, settings: Settings, rules: RuleWatch, backfilled_after_ms: int = 0) -> None:
        self.rules = rules
        self.published: list[tuple[str, bytes]] = []
        self.redis = connect_redis(settings.server_urls().redis)
        nothing: Any = None
        attempts = Attempts(Path(os.devnull), "alerts", pipeline_metrics(REGISTRY))
        edges = StageEdges(nothing, nothing, nothing, attempts, SystemClock(), REGISTRY)
        self.stage = Alerts(
            _Table(),
            _Table(),
            _Table(),
            _no_history,
            rules,
            Cooldowns(self.redis, settings.names(), METRICS),
            self.publish,
            backfilled_after_ms=backfilled_after_ms,
            edges=edges,
        )  # type: ignore[arg-type]  # reason: the table keeps nothing

    async def publish(self, records: list[tuple[str, bytes]]) -> None:
        self.published += records

    async def take(self, minute: int, price: float) -> int:
        """How many alerts a frame of one closed minute gives."""
        before = len(self.published)
        batch = metrics_batch([Row("AUSDT", minute, {"close_1m": price})])
        await self.stage.handle(0, encode_metrics(batch, FrameInfo()))
        return len(self.published) - before


async def _no_history(*_: int) -> None: ...


class _Table:
    def write(self, partition: int, packed: bytes) -> None: ...


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[Worker]:
    rules = rule_watch(settings, REGISTRY)
    await rules.begin()
    worker = Worker(settings, rules)
    board = SwitchedOffBoard(worker.redis, settings.names(), rules.switched_off, SystemClock())
    tasks = [asyncio.create_task(rules.run()), asyncio.create_task(board.run())]
    try:
        yield worker
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await worker.redis.aclose()


def enabled(rules: RuleWatch) -> set[str]:
    return {rule.rule_type for rule in rules.book.rules}


async def test_a_rule_that_raises_is_switched_off_shown_and_on_again_once_it_is_edited(ready, abs_is_broken):
    failures = METRICS.rule_failures.labels(rule_type="breaking")
    before = value_of(failures)
    async with running_sidecar(ready) as client, working(ready) as worker:
        for rule in (BREAKING, GOOD):
            assert (await client.send("POST", "/api/rules", rule, ADMIN))[0] == 201
        await eventually(lambda: {"breaking", "good"} <= enabled(worker.rules))
        with capture_logs() as logs:
            assert await worker.take(0, 5.0) == 1
            assert await worker.take(1, 6.0) == 1
        assert [entry["rule_type"] for entry in logs if entry["event"] == "rule_switched_off"] == ["breaking"]
        assert "breaking" not in enabled(worker.rules)
        assert value_of(failures) == before + 1
        assert value_of(METRICS.rules_switched_off) == 1

        async def shown() -> dict[str, Any]:
            return dict((await client.get("/api/rules/breaking"))[1])

        async def is_shown() -> bool:
            return (await shown())["state"] == "switched_off"

        await eventually(is_shown)
        [fault] = (await shown())["faults"]
        assert fault["process"].startswith("alerts ")
        assert fault["reason"] == "ZeroDivisionError: abs is broken"
        listed = {rule["rule_type"]: rule for rule in (await client.get("/api/rules"))[1]["rules"]}
        assert listed["breaking"] == await shown()
        assert (listed["good"]["state"], "faults" in listed["good"]) == ("active", False)
        assert listed["bull_whale"]["state"] == "disabled"
        health = (await client.get("/api/health"))[1]
        assert health["status"] == "degraded"
        assert health["rules"]["switched_off"] == 1
        assert health["rules"]["which"][0]["rule_type"] == "breaking"
        assert health["rules"]["which"][0]["processes"] == [fault["process"]]

        edited = BREAKING | {"expression": "price > 2"}
        assert (await client.send("PUT", "/api/rules/breaking", edited, ADMIN))[0] == 200
        await eventually(lambda: "breaking" in enabled(worker.rules))
        assert await worker.take(2, 7.0) == 2
        assert value_of(METRICS.rules_switched_off) == 0

        async def is_well() -> bool:
            return not (await client.get("/api/health"))[1]["rules"]["switched_off"]

        await eventually(is_well)
        assert (await shown())["state"] == "active"


async def test_a_change_of_another_rule_leaves_it_off(ready, abs_is_broken):
    async with running_sidecar(ready) as client, working(ready) as worker:
        for rule in (BREAKING, GOOD):
            await client.send("POST", "/api/rules", rule, ADMIN)
        await eventually(lambda: {"breaking", "good"} <= enabled(worker.rules))
        await worker.take(0, 5.0)
        await client.send("DELETE", "/api/rules/good", headers=ADMIN)
        await eventually(lambda: "good" not in enabled(worker.rules))
        assert "breaking" not in enabled(worker.rules)


async def test_what_several_workers_tell_is_shown_together_and_what_is_old_or_strange_is_not(ready):
    redis = connect_redis(ready.server_urls().redis)
    clock = SystemClock()
    async with running_sidecar(ready) as client:
        await client.send("POST", "/api/rules", GOOD, ADMIN)
        faults = [
            {
                "rule_type": "good",
                "rule_version": 1,
                "process": name,
                "reason": "x",
                "since_ms": clock.now_ms(),
            }
            for name in ("alerts a:1", "alerts b:2")
        ]

        told = {
            "alerts a:1": orjson.dumps({"at_ms": clock.now_ms(), "rules": faults[:1]}),
            "alerts b:2": orjson.dumps({"at_ms": clock.now_ms(), "rules": faults[1:]}),
            "alerts gone:3": orjson.dumps({"at_ms": clock.now_ms() - 60_000, "rules": faults}),
            "stranger": b"\xff{",
            "other": b'{"at_ms": "never", "rules": 5}',
        }
        await redis.hset(ready.name("rules-switched-off"), mapping=told)

        async def both() -> bool:
            rule = (await client.get("/api/rules/good"))[1]
            return [fault["process"] for fault in rule.get("faults", [])] == ["alerts a:1", "alerts b:2"]

        await eventually(both)
        which = (await client.get("/api/health"))[1]["rules"]["which"]
        assert [entry["processes"] for entry in which] == [["alerts a:1", "alerts b:2"]]
    await redis.aclose()


async def test_a_rule_that_raises_while_it_is_explained_costs_that_answer(ready, monkeypatch):
    async with running_sidecar(ready) as client:
        for rule in (BREAKING, GOOD):
            await client.send("POST", "/api/rules", rule, ADMIN)
        client.sidecar.parts.latest.take(metrics_batch([Row("AUSDT", 0, {"close_1m": 5.0})]))
        explained = app.sidecar.rest.explain.explain

        def broken(rule: Rule, history: Any) -> Any:
            if rule.rule_type == "breaking":
                raise ZeroDivisionError("abs is broken")
            return explained(rule, history)

        monkeypatch.setattr(app.sidecar.rest.explain, "explain", broken)
        for _ in range(2):
            status, body = await client.get("/api/explain", symbol="AUSDT", rule="breaking")
            assert (status, body["error"]) == (500, "rule_failed")
        assert (await client.get("/api/explain", symbol="AUSDT", rule="good"))[1]["truth"] is True
        [fault] = (await client.get("/api/rules/breaking"))[1]["faults"]
        assert fault["process"].startswith("sidecar ")
