"""The health and Prometheus pages that every process serves."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AbstractAsyncContextManager

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from app import telemetry
from app.errors import PortTaken
from app.telemetry.bounded_http import HttpBounds
from app.telemetry.health_server import serve_health
from tests.support.held_sockets import held_sockets


def good_pages(registry: CollectorRegistry | None = None) -> AbstractAsyncContextManager[int]:
    """The pages of a process that lives and is ready, on any port."""
    return serve_health(
        "127.0.0.1", 0, live=lambda: True, ready=lambda: True, setting="PORT",
        registry=registry or CollectorRegistry(),
    )  # fmt: skip


async def test_metrics_are_served_in_the_format_prometheus_reads():
    registry = CollectorRegistry()
    telemetry.pipeline_metrics(registry).frames.labels("bridge").inc(3)
    async with (
        good_pages(registry) as port,
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
                "127.0.0.1",
                port,
                live=lambda: True,
                ready=lambda: True,
                setting="SCREENER_SINKS_PORT",
                registry=CollectorRegistry(),
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


SLOW_HEAD = b"GET /health/live HTTP/1.1\r\nHost: a\r\nX-Slow: "
UNREAD = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 20


@pytest.mark.parametrize("first", [b"", SLOW_HEAD, UNREAD], ids=["idle", "slow head", "unread answers"])
async def test_a_probe_is_answered_however_many_sockets_its_address_holds(first: bytes):
    async with (
        good_pages() as port,
        held_sockets(port, 300, first),
    ):
        for _ in range(3):
            # as a probe does it: a connection of its own
            async with aiohttp.ClientSession() as session:
                answer = await session.get(f"http://127.0.0.1:{port}/health/live")
                assert (answer.status, await answer.json()) == (200, {"live": True})


async def test_the_connection_that_was_silent_for_longest_makes_room():
    async with (
        good_pages() as port,
        held_sockets(port, HttpBounds().connections_per_address - 1) as silent,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def ask() -> bytes:
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            return (await reader.readuntil(b'{"live":true}')).partition(b"\r\n")[0]

        assert await ask() == b"HTTP/1.1 200 OK"
        async with held_sockets(port, 20):
            cut = [asyncio.to_thread(received, one) for one in silent[:20]]
            assert await asyncio.gather(*cut) == [b""] * 20
            assert await ask() == b"HTTP/1.1 200 OK"
        writer.close()


def received(one: socket.socket) -> bytes:
    """What comes next, nothing if the connection was cut."""
    try:
        return one.recv(1)
    except ConnectionError:
        return b""
