"""Health and readiness of the sidecar, with servers that come and go."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import app.sidecar.state.server_checks as server_checks
from app.clock import SystemClock
from app.local.servers.embedded import EmbeddedStack
from app.sidecar.state.server_checks import ask_nats
from app.wire.nats.stream import connect, ensure_stream
from tests.support.alerts import make_alert, publish
from tests.support.eventually import eventually
from tests.support.metric_batches import publish_metrics
from tests.support.servers import settings_for
from tests.support.sidecar import prepare, read_alerts, running_sidecar
from tests.support.sidecar_health import IMPATIENT, NEEDED_ROLES, health, signs_of_life, states

MINUTE_MS = 1_709_000_040_000


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[EmbeddedStack]:
    """Servers of this test alone: it may stop them."""
    with EmbeddedStack.start(tmp_path) as stack:
        yield stack


ALL_UP = {"kafka": "up", "nats": "up", "postgres": "up", "redis": "up"}


async def test_with_all_servers_up_and_all_stages_at_work_health_is_ok(settings):
    await prepare(settings)
    now_ms = SystemClock().now_ms()
    async with running_sidecar(settings, IMPATIENT) as client, signs_of_life(settings, *NEEDED_ROLES):
        assert (await client.get("/health/ready"))[0] == 200

        async def is_degraded() -> bool:
            return await health(client) == (200, "degraded", ALL_UP)

        await eventually(is_degraded)
        stages = {"bridge": now_ms, "collector": now_ms, "calculator": now_ms}
        await publish_metrics(settings, [("BTCUSDT", MINUTE_MS, {})], stages)
        await eventually(lambda: len(client.sidecar.parts.latest))

        async def is_ok() -> bool:
            return await health(client) == (200, "ok", ALL_UP)

        await eventually(is_ok)
        assert await states(client) == dict.fromkeys(NEEDED_ROLES, "fresh") | {
            "feed": "absent",
            "market": "absent",
            "webhooks": "absent",
        }


async def test_health_says_how_the_database_stores_minutes(settings):
    await prepare(settings)
    async with running_sidecar(settings, IMPATIENT) as client:

        async def mode() -> object:
            return (await client.get("/api/health"))[1]["dependencies"]["postgres"]["timescaledb"]

        async def is_known() -> bool:
            return await mode() != "unknown"

        await eventually(is_known)
        assert await mode() == "absent"  # tests run on plain PostgreSQL
        client.sidecar.parts.health.timescale = lambda: "uncompressed"
        assert await mode() == "uncompressed"


@pytest.mark.parametrize("configured", [1, 3])
async def test_with_another_number_of_partitions_nothing_is_followed_and_the_log_says_why(
    settings, configured
):
    await prepare(settings)
    assert settings.partitions == 2
    wrong = settings.model_copy(update={"partitions": configured})
    with capture_logs() as logs:
        async with running_sidecar(wrong, IMPATIENT, wait_ready=False) as client:

            def faults() -> list[str]:
                return [line["error"] for line in logs if line["event"] == "cannot_follow"]

            await eventually(faults)
            status, _, servers = await health(client)
            assert (status, servers["kafka"]) == (503, "down")
            assert (await client.get("/health/ready"))[0] == 503
    topic = settings.name("metrics")
    assert any(
        f"{topic} has 2, needs {configured}" in fault and "SCREENER_PARTITIONS" in fault for fault in faults()
    )


async def test_losing_the_database_is_503_and_seen_by_clients_that_need_it_only(own_stack):
    settings = settings_for(own_stack.urls)
    await prepare(settings)
    await publish_metrics(settings, [("BTCUSDT", MINUTE_MS, {"close_1m": 1.0})])
    limits = replace(IMPATIENT, remembered_alerts=10, repeat_distance=5)
    async with running_sidecar(settings, limits) as client, client.alerts() as socket:
        await asyncio.to_thread(own_stack.processes["postgres"].stop, 10.0)
        await eventually(lambda: not client.sidecar.parts.health.ready)
        assert (await client.get("/health/ready"))[0] == 503
        assert await health(client) == (503, "down", {**ALL_UP, "postgres": "down"})
        assert (await client.get("/health/live"))[0] == 200
        assert (await client.get("/api/alerts"))[0] == 503
        assert (await client.get("/api/metrics/BTCUSDT"))[0] == 200
        await publish(settings, [make_alert(n) for n in range(30)])
        assert len(await read_alerts(socket, lambda found: len(found) == 30)) == 30
        async with client.alerts(since=-1) as resuming:
            message = await resuming.receive()
            assert (message.data, "same since" in message.extra) == (1013, True)


@pytest.mark.parametrize(("server", "status", "word"), [("redis", 200, "degraded"), ("nats", 503, "down")])
async def test_losing_another_server_is_reported_by_how_much_it_matters(own_stack, server, status, word):
    settings = settings_for(own_stack.urls)
    await prepare(settings)
    async with running_sidecar(settings, IMPATIENT) as client:
        await eventually(lambda: client.sidecar.parts.health.report()[1])
        await asyncio.to_thread(own_stack.processes[server].stop, 10.0)

        async def reported() -> bool:
            return await health(client) == (status, word, {**ALL_UP, server: "down"})

        await eventually(reported)
        assert (await client.get("/health/ready"))[0] == 200


async def test_a_nats_that_answers_and_stores_nothing_is_down(own_stack, monkeypatch):
    monkeypatch.setattr(server_checks, "_STORED_EVERY_S", 0.1)
    settings = settings_for(own_stack.urls)
    await prepare(settings)
    client = await connect(settings.nats().url, "test")
    await ensure_stream(client, settings.names())
    await client.close()
    pid = own_stack.processes["nats"].pid
    whole = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    async with running_sidecar(settings, IMPATIENT) as client:
        await eventually(lambda: client.sidecar.parts.health.report()[1])
        # as a full disk does: files may not grow, whoever we are
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, whole[1]))

        async def reported() -> bool:
            return await health(client) == (503, "down", {**ALL_UP, "nats": "down"})

        await eventually(reported)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, whole)


async def test_losing_the_broker_is_503(own_stack):
    settings = settings_for(own_stack.urls)
    await prepare(settings)
    async with running_sidecar(settings, IMPATIENT) as client:
        await asyncio.to_thread(own_stack.processes["kafka"].stop, 10.0)

        async def reported() -> bool:
            return await health(client) == (503, "down", {**ALL_UP, "kafka": "down"})

        await eventually(reported, within_s=30)
        assert (await client.get("/health/ready"))[0] == 503


async def test_something_else_on_the_port_of_nats_is_not_taken_for_nats(own_stack):
    await ask_nats(own_stack.urls["nats"])
    await ask_nats(f"nats://127.0.0.1:1,{own_stack.urls['nats']}")
    address = own_stack.urls["redis"].rpartition("@")[2].rpartition("/")[0] or own_stack.urls["redis"]
    with pytest.raises((OSError, asyncio.IncompleteReadError, TimeoutError)):
        async with asyncio.timeout(0.5):
            await ask_nats(f"nats://{address.removeprefix('redis://')}")
