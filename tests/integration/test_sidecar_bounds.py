"""What one client, or many, may hold of a sidecar's server: connections, slow requests, unread answers."""

from __future__ import annotations

import asyncio
import socket as sockets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from app.settings import Settings
from app.sidecar.http.routes import WHOLE_MARKET_COST
from app.sidecar.state.limits import SidecarLimits
from app.telemetry.bounded_http import HttpBounds
from app.telemetry.health_server import serve_health
from tests.support.eventually import eventually
from tests.support.metric_batches import metrics_batch
from tests.support.sidecar import Client, prepare, running_sidecar

ROOMY = HttpBounds(connections=500, connections_per_address=500)


def limits(**bounds: float) -> SidecarLimits:
    return SidecarLimits(http=replace(ROOMY, **bounds))


@pytest.fixture(autouse=True)
async def _prepared(settings: Settings) -> None:
    await prepare(settings)


@asynccontextmanager
async def connections(port: int, number: int, first: bytes = b"") -> AsyncIterator[list[sockets.socket]]:
    """Bare sockets that have sent `first`; nothing is read of them."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as closing:
        found = []
        for _ in range(number):
            one = sockets.socket()
            closing.callback(one.close)
            one.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4_096)
            one.setblocking(False)
            await loop.sock_connect(one, ("127.0.0.1", port))
            if first:
                await loop.sock_sendall(one, first)
            found.append(one)
        yield found


async def received(one: sockets.socket) -> bytes:
    """Everything up to the end of the connection, however that comes."""
    loop = asyncio.get_running_loop()
    found = b""
    try:
        while piece := await loop.sock_recv(one, 65_536):
            found += piece
    except ConnectionError:
        pass
    return found


def cut(client: Client, reason: str) -> float:
    registry = client.sidecar.parts.registry
    return registry.get_sample_value("api_gateway_connections_cut_total", {"reason": reason}) or 0.0


async def test_connections_that_are_idle_or_slow_end_while_a_good_client_is_served(settings):
    slow = b"GET /health/live HTTP/1.1\r\nHost: a\r\nX-Slow: "
    async with (
        running_sidecar(settings, limits(head_s=0.5, idle_s=1.5)) as client,
        connections(client.sidecar.port, 150) as idle,
        connections(client.sidecar.port, 50, slow) as slowly,
    ):
        ends = asyncio.gather(*(received(one) for one in (*idle, *slowly)))
        trickle = asyncio.create_task(_trickle(slowly))
        async with asyncio.timeout(60):
            while not ends.done():
                status, _ = await client.get("/health/live")
                assert status == 200
                await asyncio.sleep(0)
        trickle.cancel()
        assert cut(client, "slow_head") == 50
        assert set(await ends) == {b""}


async def _trickle(slowly: list[sockets.socket]) -> None:
    """A byte of its head for each, again and again: that buys no time."""
    while True:
        for one in slowly:
            try:
                one.send(b"x")
            except OSError:
                continue
        await asyncio.sleep(0.05)


async def test_more_connections_of_an_address_than_it_may_have_are_refused_in_words(settings):
    async with running_sidecar(settings, limits(connections_per_address=8)) as client:
        async with connections(client.sidecar.port, 30) as found:
            await eventually(lambda: cut(client, "too_many_of_address") >= 20)
            told = await received(found[-1])
            assert told.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After: 5\r\n" in told
            head, _, body = told.partition(b"\r\n\r\n")
            assert f"Content-Length: {len(body)}".encode() in head
            assert b'"too_many_connections"' in body
        await eventually(lambda: _served(client))


async def test_more_connections_than_there_may_be_are_refused_and_places_come_back(settings):
    async with running_sidecar(settings, limits(connections=10)) as client:
        async with connections(client.sidecar.port, 30):
            await eventually(lambda: cut(client, "too_many") >= 18)
        await eventually(lambda: _served(client))


async def _served(client: Client) -> bool:
    try:
        async with (
            aiohttp.ClientSession() as fresh,
            fresh.get(client.session._build_url("/health/live")) as answer,
        ):
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def test_trusted_proxies_bring_many_connections(settings):
    trusting = Settings.model_validate({**settings.model_dump(), "trusted_proxies": "127.0.0.0/8"})
    async with (
        running_sidecar(trusting, limits(connections_per_address=2)) as client,
        connections(client.sidecar.port, 30),
    ):
        assert (await client.get("/health/live"))[0] == 200
        assert cut(client, "too_many_of_address") == 0


def _know(client: Client, symbols: int) -> None:
    client.sidecar.parts.latest.take(
        metrics_batch([(f"S{n:04}USDT", 0, {"close_1m": n + 0.5}) for n in range(symbols)])
    )


async def test_a_client_that_does_not_read_makes_us_hold_a_piece_of_its_answer_and_is_cut(settings):
    """The whole answer is 9 MB."""
    async with running_sidecar(settings, limits(stalled_s=1.0)) as client:
        _know(client, 2_000)
        ask = b"GET /api/metrics HTTP/1.1\r\nHost: a\r\n\r\n"
        async with connections(client.sidecar.port, 20, ask) as unread:
            async with asyncio.timeout(60):
                while cut(client, "unread") < 20:
                    now_s = asyncio.get_running_loop().time()
                    assert sum(one.unread(now_s) for one in client.sidecar.connections) < 20 * 1_000_000
                    assert (await client.get("/health/live"))[0] == 200
            assert len(unread) == 20
        status, body = await client.get("/api/metrics")
        assert (status, len(body["metrics"])) == (200, 2_000)


async def test_unread_answers_together_are_bounded_before_any_has_stalled(settings):
    async with running_sidecar(settings, limits(unread_bytes=1_000_000, stalled_s=100.0)) as client:
        _know(client, 2_000)
        ask = b"GET /api/symbols HTTP/1.1\r\nHost: a\r\n\r\n" * 50
        async with connections(client.sidecar.port, 30, ask):
            await eventually(lambda: cut(client, "unread") >= 20)


async def test_a_whole_market_is_told_again_only_when_it_changed(settings):
    async with running_sidecar(settings) as client:
        _know(client, 50)
        async with client.session.get("/api/metrics") as first:
            etag = first.headers["ETag"]
            assert first.headers["X-Content-Type-Options"] == "nosniff"
            assert len((await first.json())["metrics"]) == 50
        async with client.session.get("/api/metrics", headers={"If-None-Match": etag}) as again:
            assert again.status == 304
        async with client.session.get("/api/metrics?field=close", headers={"If-None-Match": etag}) as other:
            assert other.status == 200
        _know(client, 1)
        async with client.session.get("/api/metrics", headers={"If-None-Match": etag}) as changed:
            assert changed.status == 200


async def test_costly_requests_count_as_several(settings, monkeypatch):
    monkeypatch.setattr("app.sidecar.access.rate_limit.WINDOW_MS", 10**12)
    few = Settings.model_validate({**settings.model_dump(), "rate_limit_per_minute": 40})
    async with running_sidecar(few, rate_limited=True) as client:
        left = []
        for path in (
            "/api/symbols",
            "/api/metrics",
            "/api/metrics?symbol=A",
            "/api/screener?where=close_1m>1",
            "/api/klines?symbol=A&interval=1m",
            "/api/explain?symbol=A&rule=a",
        ):
            async with client.session.get(path) as response:
                left.append(int(response.headers["RateLimit-Remaining"]))
    costs = [before - after for before, after in zip([40, *left], left, strict=False)]
    assert costs == [1, WHOLE_MARKET_COST, 1, 3, 2, 3]


async def test_the_health_pages_of_every_role_have_bounds_too():
    async with (
        serve_health(
            "127.0.0.1",
            0,
            live=lambda: True,
            ready=lambda: True,
            setting="SCREENER_SINKS_PORT",
            registry=CollectorRegistry(),
        ) as port,
        connections(port, HttpBounds().connections_per_address + 20) as found,
    ):
        # those that were silent for longest made room for the last
        assert await asyncio.gather(*(received(one) for one in found[:20])) == [b""] * 20
