"""The rate limit over REST: what is told, who counts as one client, and what replicas share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from app.local.servers.embedded import EmbeddedStack
from app.settings import Settings
from tests.support.eventually import eventually
from tests.support.servers import settings_for
from tests.support.sidecar import Client, prepare, running_sidecar
from tests.support.tokens import SECRET, bearer

LIMIT = 5
PATH = "/api/symbols"


def limited(settings: Settings, **changes: Any) -> Settings:
    given = {"jwt_secret": SECRET, "rate_limit_per_minute": LIMIT}
    return Settings.model_validate({**settings.model_dump(), **given} | changes)


async def statuses(
    client: Client, times: int, headers: Any = None, path: str = PATH, method: str = "GET"
) -> list[int]:
    found = []
    for _ in range(times):
        async with client.session.request(method, path, headers=headers) as response:
            found.append(response.status)
    return found


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """One minute for the whole test: a new one would begin the count anew."""
    monkeypatch.setattr("app.sidecar.access.rate_limit.WINDOW_MS", 10**12)


@pytest.mark.usefixtures("still")
async def test_what_is_left_is_told_and_too_many_are_refused(settings):
    async with running_sidecar(limited(settings), wait_ready=False, rate_limited=True) as client:
        for left in (4, 3, 2, 1, 0):
            async with client.session.get(PATH) as response:
                assert response.status == 200
                assert response.headers["RateLimit-Limit"] == str(LIMIT)
                assert response.headers["RateLimit-Remaining"] == str(left)
                assert int(response.headers["RateLimit-Reset"]) >= 1
                assert "Retry-After" not in response.headers
        async with client.session.get(PATH) as response:
            assert (response.status, (await response.json())["error"]) == (429, "too_many_requests")
            assert response.headers["Retry-After"] == response.headers["RateLimit-Reset"]
            assert response.headers["RateLimit-Remaining"] == "0"
        registry = client.sidecar.parts.registry
        refused = registry.get_sample_value("api_gateway_rate_limited_total", {"reason": "address"})
        assert refused == 1.0


@pytest.mark.usefixtures("still")
async def test_everything_under_api_counts_and_what_machines_ask_does_not(settings):
    async with running_sidecar(limited(settings), wait_ready=False, rate_limited=True) as client:
        for path in ("/health/live", "/metrics", "/", "/api/health"):
            assert 429 not in await statuses(client, LIMIT + 2, path=path), path
        counted = [
            await statuses(client, 1, path=path, method=method)
            for method, path in (
                ("GET", "/api/nothing"),
                ("HEAD", PATH),
                ("GET", f"{PATH}?wrong=1"),
                ("POST", PATH),
                ("GET", "/api/settings"),
            )
        ]
        assert counted == [[404], [200], [400], [405], [401]]
        assert await statuses(client, 1) == [429]


@pytest.mark.usefixtures("still")
async def test_users_have_a_count_of_their_own_wherever_they_are(settings):
    async with running_sidecar(limited(settings), wait_ready=False, rate_limited=True) as client:
        assert await statuses(client, LIMIT + 1) == [200] * LIMIT + [429]
        assert await statuses(client, LIMIT + 1, bearer("ann")) == [200] * LIMIT + [429]
        assert await statuses(client, 1, bearer("ann", jti="another token")) == [429]
        assert await statuses(client, 1, bearer("bob")) == [200]
        # guessing tokens counts against the address
        assert await statuses(client, 1, {"Authorization": "Bearer guess"}) == [429]


@pytest.mark.usefixtures("still")
async def test_a_spoofed_address_neither_helps_nor_harms(settings):
    async with running_sidecar(limited(settings), wait_ready=False, rate_limited=True) as client:
        found = [await statuses(client, 1, {"X-Forwarded-For": f"198.51.100.{n}"}) for n in range(LIMIT + 1)]
        assert found == [[200]] * LIMIT + [[429]]
    trusting = limited(settings, trusted_proxies=("127.0.0.0/8",))
    async with running_sidecar(trusting, wait_ready=False, rate_limited=True) as client:
        # the proxy adds the peer it saw at the right; what stands before it is the client's own word
        for n in range(LIMIT):
            assert await statuses(client, 1, {"X-Forwarded-For": f"203.0.113.{n}, 198.51.100.7"}) == [200]
        assert await statuses(client, 1, {"X-Forwarded-For": "203.0.113.99, 198.51.100.7"}) == [429]
        two_headers = [("X-Forwarded-For", "203.0.113.99"), ("X-Forwarded-For", "198.51.100.7")]
        assert await statuses(client, 1, two_headers) == [429]
        assert await statuses(client, 1, {"X-Forwarded-For": "198.51.100.8"}) == [200]
        # garbage stops the walk: this is the proxy itself
        assert await statuses(client, LIMIT + 1, {"X-Forwarded-For": "198.51.100.8, garbage"}) == [
            200
        ] * LIMIT + [429]
        # one host has a whole /64
        network = [await statuses(client, 1, {"X-Forwarded-For": f"2001:db8::{n}"}) for n in range(LIMIT + 1)]
        assert network == [[200]] * LIMIT + [[429]]
        assert await statuses(client, 1, {"X-Forwarded-For": "2001:db8:0:1::1"}) == [200]


def elsewhere(client: Client) -> int:
    counts = client.sidecar.parts.limiter._counts
    return sum(count.elsewhere for count in counts.values())


async def told(settings: Settings) -> bool:
    """Whether the 15 requests of the first replica are in Redis."""
    async with Redis.from_url(settings.server_urls().redis) as redis:
        keys = [key async for key in redis.scan_iter(f"{settings.name('requests')}:*")]
        assert not any(b"127.0.0.1" in key for key in keys)
        return bool(keys) and sum(map(int, await redis.mget(keys))) == 15


@pytest.mark.usefixtures("still")
async def test_replicas_share_their_counts(settings):
    shared = limited(settings, rate_limit_per_minute=20)
    async with (
        running_sidecar(shared, wait_ready=False, rate_limited=True) as one,
        running_sidecar(shared, wait_ready=False, rate_limited=True) as other,
    ):
        assert await statuses(one, 15) == [200] * 15
        await eventually(lambda: told(shared), within_s=30)
        assert await statuses(other, 3) == [200] * 3
        await eventually(lambda: elsewhere(other))
        found = await statuses(other, 10)
        assert found.count(200) < 10
        assert found[-1] == 429


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[EmbeddedStack]:
    """Servers of this test alone: it may stop them."""
    with EmbeddedStack.start(tmp_path) as stack:
        yield stack


@pytest.mark.usefixtures("still")
async def test_while_redis_is_away_every_replica_counts_for_itself(own_stack):
    settings = limited(settings_for(own_stack.urls))
    await prepare(settings)
    async with running_sidecar(settings, wait_ready=False, rate_limited=True) as client:
        assert await statuses(client, 2) == [200, 200]
        own_stack.processes["redis"].stop(10.0)
        assert await statuses(client, 4) == [200, 200, 200, 429]
        assert await statuses(client, LIMIT + 1, bearer("ann")) == [200] * LIMIT + [429]
        await eventually(lambda: not client.sidecar.parts.counts.shared)
        assert await statuses(client, 1) == [429]


async def test_no_limit_can_be_set(settings):
    unlimited = limited(settings, rate_limit_per_minute=0)
    async with running_sidecar(unlimited, wait_ready=False, rate_limited=True) as client:
        assert await statuses(client, 150) == [200] * 150
        async with client.session.get(PATH) as response:
            assert "RateLimit-Limit" not in response.headers
