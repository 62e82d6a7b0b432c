"""The sidecar as a process: its start, its ports, its metrics and its end."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.clock import SystemClock
from app.errors import PortTaken, ScreenerError, SettingsError
from app.settings import Settings
from app.sidecar.run import run_sidecar, serve_sidecar
from app.telemetry.catalogue import RoleRegistry
from tests.support.alerts import make_alert, publish
from tests.support.eventually import eventually
from tests.support.sidecar import FREE_PORTS, prepare, read_alerts, running_sidecar
from tests.support.sidecar_health import IMPATIENT


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
                async with serve_sidecar(unlucky, SystemClock(), RoleRegistry("sidecar")):
                    pass
    finally:
        taken.close()
        await taken.wait_closed()


async def test_missing_urls_are_refused_by_name():
    with pytest.raises(SettingsError, match=r"SCREENER_NATS_URL.*SCREENER_POSTGRES_URL"):
        await run_sidecar(Settings.load({}), SystemClock(), RoleRegistry("sidecar"), asyncio.Event())


async def test_the_process_ends_in_good_order_when_told_to_stop(settings):
    stop = asyncio.Event()
    before = asyncio.all_tasks()
    running = asyncio.create_task(
        run_sidecar(settings.model_copy(update=FREE_PORTS), SystemClock(), RoleRegistry("sidecar"), stop)
    )
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


async def test_a_part_that_ends_by_itself_ends_the_process(settings):
    async with running_sidecar(settings, wait_ready=False) as client:
        ended = asyncio.create_task(client.sidecar.run_until(asyncio.Event()))
        part = next(task for task in asyncio.all_tasks() if task.get_name() == "health")
        part.cancel()
        with pytest.raises(ScreenerError, match="'health' ended by itself"):
            await asyncio.wait_for(ended, 20)
