"""The health of a process: its loop, its dependencies, its report."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from app.process.health import dependencies, loop_probe
from app.process.health.dependencies import Dependencies, Dependency
from app.process.health.process import RolePages, process_health, serve_roles
from app.role_health import NEEDS, dependencies_of
from app.settings import Settings
from app.telemetry import runtime_metrics
from app.telemetry.catalogue import ROLE_PORTS, RoleRegistry
from tests.support.eventually import eventually


class Server:
    def __init__(self) -> None:
        self.up = True
        self.asked = 0

    async def ask(self) -> None:
        self.asked += 1
        if not self.up:
            raise ConnectionError("refused")


async def nothing() -> None: ...


async def test_a_loop_that_stands_still_is_logged_with_where_and_counted_as_lag(monkeypatch):
    monkeypatch.setattr(loop_probe, "_EVERY_S", 0.01)
    monkeypatch.setattr(loop_probe, "_BLOCKED_S", 0.1)
    registry = CollectorRegistry()
    with capture_logs() as logs:
        async with loop_probe.loop_probe(runtime_metrics(registry)) as probe:
            await eventually(lambda: lag_above(registry, 0.0) > 0)
            a_long_computation()
            await eventually(lambda: lag_above(registry, 0.2) > 0)
            assert probe.turns
    blocked = [event["stack"] for event in logs if event["event"] == "event_loop_blocked"]
    # a busy machine may have held the loop up elsewhere too
    assert any("a_long_computation" in stack for stack in blocked)


def a_long_computation() -> None:
    time.sleep(0.4)  # what must never happen in a loop


def lag_above(registry: CollectorRegistry, bound_s: float) -> float:
    total = registry.get_sample_value("screener_event_loop_lag_seconds_count") or 0.0
    below = registry.get_sample_value("screener_event_loop_lag_seconds_bucket", {"le": str(bound_s)}) or 0.0
    return total - below


async def test_a_loop_that_has_not_turned_for_long_is_not_live(monkeypatch):
    monkeypatch.setattr(loop_probe, "STUCK_AFTER_S", 0.05)
    probe = loop_probe.LoopProbe(runtime_metrics(CollectorRegistry()))
    await eventually(lambda: not probe.turns)
    running = asyncio.create_task(probe.run())
    await eventually(lambda: not running.done())
    running.cancel()


async def test_a_dependency_is_up_or_down_by_its_last_answer_and_changes_are_logged_once(monkeypatch):
    monkeypatch.setattr(dependencies, "_EVERY_S", 0.01)
    monkeypatch.setattr(dependencies, "_RECHECK_S", 0.01)
    registry = CollectorRegistry()
    kafka, redis = Server(), Server()
    watched = Dependencies(
        [Dependency("kafka", kafka.ask), Dependency("redis", redis.ask, needed=False)],
        runtime_metrics(registry),
    )
    assert watched.report() == (
        {"kafka": {"state": "unknown", "needed": True}, "redis": {"state": "unknown", "needed": False}}, True,
    )  # fmt: skip

    def gauge(name: str) -> float | None:
        return registry.get_sample_value("screener_dependency_up", {"dependency": name})

    with capture_logs() as logs:
        running = asyncio.create_task(watched.run())
        await eventually(lambda: watched.all_up)
        redis.up = False
        await eventually(lambda: gauge("redis") == 0.0)
        assert watched.report()[1] is True
        kafka.up = False
        await eventually(lambda: gauge("kafka") == 0.0)
        asked = kafka.asked
        await eventually(lambda: kafka.asked > asked + 2)
        assert watched.report() == (
            {"kafka": {"state": "down", "needed": True}, "redis": {"state": "down", "needed": False}}, False,
        )  # fmt: skip
        kafka.up = redis.up = True
        await eventually(lambda: watched.all_up)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    told = [(event["event"], event["dependency"]) for event in logs]
    assert told[:2] == [("dependency_down", "redis"), ("dependency_down", "kafka")]
    assert sorted(told[2:]) == [("dependency_up", "kafka"), ("dependency_up", "redis")]


async def test_each_role_of_a_process_answers_on_its_own_port(tmp_path: Path):
    ready = False
    nats = Server()
    async with (
        process_health([Dependency("nats", nats.ask)], lambda: ready, tmp_path / "not there yet") as health,
        serve_roles(
            health,
            "127.0.0.1",
            {
                "bridge": RolePages("A", 0, RoleRegistry("bridge")),
                "collector": RolePages("B", 0, RoleRegistry("collector")),
            },
        ) as ports,
        aiohttp.ClientSession() as session,
    ):

        async def ask(role: str, path: str) -> tuple[int, dict[str, object]]:
            async with session.get(f"http://127.0.0.1:{ports[role]}{path}") as answer:
                return answer.status, await answer.json()

        await eventually(lambda: nats.asked)
        for role in ports:
            assert await ask(role, "/health/live") == (200, {"live": True})
            assert await ask(role, "/health/ready") == (503, {"ready": False})
            status, report = await ask(role, "/health")
            assert (status, report["role"], report["status"]) == (200, role, "degraded")
            assert report["dependencies"] == {"nats": {"state": "up", "needed": True}}
        ready = True
        assert (await ask("bridge", "/health"))[1]["status"] == "ok"
        async with session.get(f"http://127.0.0.1:{ports['collector']}/metrics") as answer:
            page = await answer.text()
    assert "screener_ready 1.0" in page
    assert "screener_disk_free_bytes" in page
    assert "screener_build_info{" in page


def test_every_role_says_which_servers_it_needs():
    settings = Settings.load(
        {}, nats_url="nats://h:1", kafka_url="h:2", redis_url="redis://h:3", postgres_url="postgresql://h:4/d"
    )
    for role in set(ROLE_PORTS) - {"sidecar"}:
        found = {
            dependency.name: dependency.needed for dependency in dependencies_of([role], settings.servers())
        }
        # the feed's server is the exchange
        assert found == NEEDS[role] | (
            {"exchange": True, "exchange-rest": False, "clock": False} if role == "feed" else {}
        )
        assert any(found.values())
    together = dependencies_of(["collector", "calculator", "alerts"], settings.servers())
    assert {one.name: one.needed for one in together} == {"kafka": True, "redis": False, "postgres": False}
