"""Health of a running `screener up` whose roles stand still, or live and get nothing done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import aiohttp
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from app.database.connection import connection_url
from app.settings import Settings
from tests.support.eventually import eventually
from tests.support.held_sockets import held_sockets
from tests.support.running_up import START_S, Up, running

pytestmark = pytest.mark.timeout(1_800)

STOPPED_TOLD_S = 30.0
WAITS_S = 15.0
"""No work waits so long in ordinary operation."""
HARDLY_WAITS_S = 3.0
NEXT_WORK_S = 75.0 + WAITS_S
"""A minute's close, and what follows from it."""
PROBE_S, PROBE_FAILURES = 5.0, 3
"""A probe of Kubernetes waits so long for its answer; so many failures in a row restart the role."""
STUCK_TOLD_S = 50.0
"""40 s without progress, and the pauses between looks."""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One screener for all tests here: each waits until it is well, and leaves it well."""
    with running(tmp_path_factory.mktemp("up")) as up:
        yield up


@pytest.mark.parametrize(
    ("program", "stages"),
    [
        ("app.main:all", ("collector", "calculator", "alerts")),
        ("run sinks", ("sinks",)),
        ("run webhooks", ("webhooks",)),
        ("run bridge", ("bridge",)),
        ("run feed", ("feed",)),
    ],
)
async def test_health_says_within_thirty_seconds_which_stage_stands_still_and_when_it_goes_on(
    up: Up, program: str, stages: tuple[str, ...]
) -> None:
    await up.is_up()

    async def health() -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.get(f"{up.url}/api/health") as answer:
            return dict(await answer.json())

    async def is_ok() -> bool:
        return (await health())["status"] == "ok"

    async def is_told() -> bool:
        report = await health()
        not_fresh = {name for name in stages if report["stages"][name]["state"] != "fresh"}
        return report["status"] != "ok" and not_fresh == set(stages)

    await eventually(is_ok, START_S, of_work=True)
    process = up.find(program)
    assert process is not None
    process.suspend()
    try:
        await eventually(is_told, STOPPED_TOLD_S)
    finally:
        process.resume()
    await eventually(is_ok, START_S, of_work=True)


@pytest.mark.parametrize("first", [b"", b"GET /health/live HTTP/1.1\r\nHost: a\r\nX-Slow: "])
async def test_every_role_says_that_it_lives_while_one_address_holds_199_sockets_of_its_port(
    up: Up, first: bytes
) -> None:
    await up.is_up()
    for role in set(up.ports) - {"sim_exchange"}:
        async with held_sockets(up.ports[role], 199, first):
            for _ in range(3):
                assert await passes_a_probe(f"http://127.0.0.1:{up.ports[role]}/health/live"), role


async def passes_a_probe(url: str) -> bool:
    """As a deployment asks, which restarts a role after so many failures in a row."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PROBE_S)) as session:
        for _ in range(PROBE_FAILURES):
            with suppress(aiohttp.ClientError, TimeoutError):
                return (await session.get(url)).status == 200
    return False


@pytest.mark.parametrize(("table", "role"), [("candles_1m", "sinks"), ("webhook_deliveries", "webhooks")])
async def test_health_says_which_role_lives_and_gets_nothing_done(up: Up, table: str, role: str) -> None:
    """Another session keeps its table, as a migration by hand does that nobody ended."""
    await up.is_up()

    async def stage() -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.get(f"{up.url}/api/health") as answer:
            report = await answer.json()
        return {**report["stages"][role], "status": report["status"]}

    async def waiting_s() -> float:
        return max((work["waiting_s"] or 0.0 for work in (await stage())["work"].values()), default=0.0)

    async def is_ok() -> bool:
        return (await stage())["status"] == "ok" and await waiting_s() < HARDLY_WAITS_S

    async def waits() -> bool:
        return await waiting_s() > WAITS_S

    async def is_stuck() -> bool:
        return (await stage())["state"] == "stuck"

    # the role may still have work of the test before, in which it stood still
    await eventually(is_ok, START_S, of_work=True)
    settings = Settings.load({}, postgres_url=await asyncio.to_thread(up.server_url, "postgres"))
    async with (
        await psycopg.AsyncConnection.connect(connection_url(settings.postgres())) as other,
        other.transaction(),
    ):
        await other.execute(SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(Identifier(table)))
        await eventually(waits, NEXT_WORK_S)
        await eventually(is_stuck, STUCK_TOLD_S)
        assert (await stage())["status"] == "degraded"
    await eventually(is_ok, START_S, of_work=True)
