"""Health, readiness and Prometheus of the sidecar, with servers that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.clock import SystemClock
from app.errors import PortTaken, ScreenerError, SettingsError
from app.settings import Settings
from app.sidecar.health import ask_nats
from app.sidecar.limits import SidecarLimits
from app.sidecar.server import run_sidecar, serve_sidecar
from app.stack.embedded import EmbeddedStack
from tests.support.alerts import make_alert, publish
from tests.support.eventually import eventually
from tests.support.metric_batches import publish_metrics
from tests.support.servers import settings_for
from tests.support.sidecar import FREE_PORTS, Client, prepare, read_alerts, running_sidecar

IMPATIENT = SidecarLimits(dependency_check_s=0.1, dependency_timeout_s=1.0, settle_s=1.0)
MINUTE_MS = 1_709_000_040_000


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[EmbeddedStack]:
    """Servers of this test alone: it may stop them."""
    with EmbeddedStack.start(tmp_path) as stack:
        yield stack


async def health(client: Client) -> tuple[int, str, dict[str, str]]:
    status, body = await client.get("/api/health")
    return status, body["status"], {name: one["state"] for name, one in body["dependencies"].items()}


ALL_UP = {"kafka": "up", "nats": "up", "postgres": "up", "redis": "up"}


async def test_with_all_servers_up_and_all_stages_at_work_health_is_ok(settings):
    await prepare(settings)
    now_ms = SystemClock().now_ms()
    async with running_sidecar(settings, IMPATIENT) as client:
        assert (await client.get("/health/ready"))[0] == 200
        assert await health(client) == (200, "degraded", ALL_UP)
        stages = {"bridge": now_ms, "collector": now_ms, "calculator": now_ms}
        await publish_metrics(settings, [("BTCUSDT", MINUTE_MS, {})], stages)
        await eventually(lambda: len(client.sidecar.parts.latest))
        assert await health(client) == (200, "ok", ALL_UP)
        _, body = await client.get("/health")
        assert {name: stage["state"] for name, stage in body["stages"].items()} == dict.fromkeys(
            stages, "fresh"
        )


async def test_a_stage_that_fell_silent_is_reported(settings):
    await prepare(settings)
    limits = replace(IMPATIENT, stale_after_s=10.0)
    now_ms = SystemClock().now_ms()
    async with running_sidecar(settings, limits) as client:
        stages = {"bridge": now_ms, "collector": now_ms - 60_000}
        await publish_metrics(settings, [("BTCUSDT", MINUTE_MS, {})], stages)
        await eventually(lambda: len(client.sidecar.parts.latest))
        status, body = await client.get("/api/health")
    assert (status, body["status"]) == (200, "degraded")
    states = {name: stage["state"] for name, stage in body["stages"].items()}
    assert states == {"bridge": "fresh", "collector": "stale", "calculator": "silent"}


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


async def test_losing_the_broker_is_503(own_stack):
    settings = settings_for(own_stack.urls)
    await prepare(settings)
    async with running_sidecar(settings, IMPATIENT) as client:
        await asyncio.to_thread(own_stack.processes["kafka"].stop, 10.0)

        async def reported() -> bool:
            return await health(client) == (503, "down", {**ALL_UP, "kafka": "down"})

        await eventually(reported, within_s=30)
        assert (await client.get("/health/ready"))[0] == 503


async def test_a_sidecar_started_before_topics_and_tables_begins_when_they_are_there(settings):
    async with running_sidecar(settings, IMPATIENT, wait_ready=False) as client:
        assert (await client.get("/health/ready"))[0] == 503
        await prepare(settings)
        await eventually(lambda: client.sidecar.parts.health.ready)
        async with client.alerts() as socket:
            await publish(settings, [make_alert(0)])
            assert len(await read_alerts(socket, lambda found: len(found) == 1)) == 1


async def test_a_taken_port_is_reported_with_its_setting(settings):
    taken = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    try:
        for setting in ("sidecar_port", "sidecar_metrics_port"):
            unlucky = settings.model_copy(update={**FREE_PORTS, setting: port})
            with pytest.raises(PortTaken, match=f"SCREENER_{setting.upper()}"):
                async with serve_sidecar(unlucky, SystemClock()):
                    pass
    finally:
        taken.close()
        await taken.wait_closed()


async def test_missing_urls_are_refused_by_name():
    with pytest.raises(SettingsError, match=r"SCREENER_NATS_URL.*SCREENER_POSTGRES_URL"):
        await run_sidecar(Settings.load({}), SystemClock(), asyncio.Event())


async def test_the_process_ends_in_good_order_when_told_to_stop(settings):
    stop = asyncio.Event()
    before = asyncio.all_tasks()
    running = asyncio.create_task(run_sidecar(settings.model_copy(update=FREE_PORTS), SystemClock(), stop))
    await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(running, 20)
    assert asyncio.all_tasks() - before == set()


async def test_requests_are_counted_by_route_never_by_path_on_both_ports(settings):
    await prepare(settings)
    async with running_sidecar(settings) as client:
        for symbol in ("AUSDT", "BUSDT", "CUSDT"):
            await client.get(f"/api/metrics/{symbol}")
        await client.get("/nothing/here")
        pages = []
        for port in (client.sidecar.port, client.sidecar.metrics_port):
            async with client.session.get(f"http://127.0.0.1:{port}/metrics") as response:
                pages.append(await response.text())
    for page in pages:
        families = {family.name: family for family in text_string_to_metric_families(page)}
        counted = {
            (sample.labels["route"], sample.labels["status"]): sample.value
            for sample in families["api_gateway_http_requests"].samples
            if sample.name.endswith("_total")
        }
        assert counted[("/api/metrics/{symbol}", "404")] == 3.0
        assert counted[("none", "404")] == 1.0
        assert not any("AUSDT" in route or "nothing" in route for route, _ in counted)
        assert families["api_gateway_http_duration_seconds"].type == "histogram"


async def test_something_else_on_the_port_of_nats_is_not_taken_for_nats(own_stack):
    await ask_nats(own_stack.urls["nats"])
    await ask_nats(f"nats://127.0.0.1:1,{own_stack.urls['nats']}")
    address = own_stack.urls["redis"].rpartition("@")[2].rpartition("/")[0] or own_stack.urls["redis"]
    with pytest.raises((OSError, asyncio.IncompleteReadError, TimeoutError)):
        async with asyncio.timeout(0.5):
            await ask_nats(f"nats://{address.removeprefix('redis://')}")


async def test_a_part_that_ends_by_itself_ends_the_process(settings):
    async with running_sidecar(settings, wait_ready=False) as client:
        ended = asyncio.create_task(client.sidecar.run_until(asyncio.Event()))
        part = next(task for task in asyncio.all_tasks() if task.get_name() == "health")
        part.cancel()
        with pytest.raises(ScreenerError, match="'health' ended by itself"):
            await asyncio.wait_for(ended, 20)
