"""The health and Prometheus pages that every process serves."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from app import telemetry
from app.errors import PortTaken
from app.observe import serve_health


async def test_metrics_are_served_in_the_format_prometheus_reads():
    registry = CollectorRegistry()
    telemetry.pipeline_metrics(registry).frames.labels("bridge").inc(3)
    async with (
        serve_health(
            "127.0.0.1", 0, live=lambda: True, ready=lambda: True, setting="PORT", registry=registry
        ) as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as response,
    ):
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    sample = families["screener_frames"].samples[0]
    assert (sample.name, sample.labels, sample.value) == ("screener_frames_total", {"stage": "bridge"}, 3.0)


async def test_liveness_and_readiness_follow_the_process_and_fail_with_503():
    state = {"live": True, "ready": False}
    async with (
        serve_health(
            "127.0.0.1",
            0,
            live=lambda: state["live"],
            ready=lambda: state["ready"],
            setting="PORT",
            registry=CollectorRegistry(),
        ) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):

        async def ask(path: str) -> tuple[int, object]:
            async with session.get(path) as response:
                return response.status, await response.json()

        assert await ask("/health/live") == (200, {"live": True})
        assert await ask("/health/ready") == (503, {"ready": False})
        state.update(live=False, ready=True)
        assert await ask("/health/live") == (503, {"live": False})
        assert await ask("/health/ready") == (200, {"ready": True})


async def test_a_taken_port_is_reported_with_the_setting_that_changes_it():
    other = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    try:
        with pytest.raises(PortTaken, match=rf"port {port} .*SCREENER_SINKS_PORT"):
            async with serve_health(
                "127.0.0.1", port, live=lambda: True, ready=lambda: True, setting="SCREENER_SINKS_PORT"
            ):
                pass
    finally:
        other.close()
        await other.wait_closed()


async def test_the_port_is_free_again_after_the_context():
    pages = {"live": lambda: True, "ready": lambda: True, "setting": "PORT", "registry": CollectorRegistry()}
    async with serve_health("127.0.0.1", 0, **pages) as first:
        pass
    async with serve_health("127.0.0.1", first, **pages) as second:
        assert second == first


def test_asking_again_for_the_metrics_of_a_registry_gives_the_same_objects():
    registry = CollectorRegistry()
    assert telemetry.alert_metrics(registry) is telemetry.alert_metrics(registry)
    assert telemetry.alert_metrics(CollectorRegistry()) is not telemetry.alert_metrics(registry)


@pytest.mark.parametrize(
    "metrics_of", [found for name, found in vars(telemetry).items() if name.endswith("_metrics")]
)
def test_the_process_registry_by_name_and_by_default_gives_the_same_metrics(metrics_of):
    assert metrics_of() is metrics_of(REGISTRY)
    assert metrics_of(registry=REGISTRY) is metrics_of()
