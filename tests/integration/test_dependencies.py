"""Roles ask each server for what they need of it: one that answers and refuses it is down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier
from pydantic import SecretStr

from app.database.connection import connection_url
from app.database.migrate import migrate
from app.errors import ServerUnreachable
from app.local.servers.embedded import EmbeddedStack
from app.process.health.dependencies import Ask
from app.role_health import NEEDS, dependencies_of
from app.settings import Settings
from app.sidecar.state.limits import SidecarLimits
from app.wire.kafka import ensure_topics
from app.wire.redis import connect_redis
from tests.support.eventually import eventually
from tests.support.servers import settings_for
from tests.support.sidecar import Client, prepare, running_sidecar

IMPATIENT = replace(SidecarLimits(), dependency_check_s=0.1, dependency_timeout_s=1.0)


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[EmbeddedStack]:
    with EmbeddedStack.start(tmp_path) as stack:
        yield stack


def standby(settings: Settings) -> Settings:
    """The same, with a database that takes no writes."""
    assert settings.postgres_url is not None
    url = make_conninfo(
        settings.postgres_url.get_secret_value(), options="-c default_transaction_read_only=on"
    )
    return settings.model_copy(update={"postgres_url": SecretStr(url)})


def ask(settings: Settings, role: str, server: str) -> Ask:
    return next(one.ask for one in dependencies_of((role,), settings.servers()) if one.name == server)


async def is_told(client: Client, server: str, status: int) -> bool:
    got, report = await client.get("/api/health")
    return got == status and report["dependencies"][server]["state"] == "down"


async def test_servers_that_do_what_is_needed_are_up_for_every_role(settings: Settings) -> None:
    await prepare(settings)
    for role, servers in NEEDS.items():
        for server in servers:
            await ask(settings, role, server)()


async def test_a_database_that_takes_no_writes_is_down_for_those_who_write(settings: Settings) -> None:
    await asyncio.to_thread(migrate, settings.postgres())
    for role in ("sinks", "webhooks"):
        with pytest.raises(Exception, match="read-only transaction"):
            await ask(standby(settings), role, "postgres")()
    for role in ("feed", "calculator", "alerts"):
        await ask(standby(settings), role, "postgres")()


async def test_what_was_tried_in_the_database_is_not_there(settings: Settings) -> None:
    await asyncio.to_thread(migrate, settings.postgres())
    for role in ("sinks", "webhooks"):
        await ask(settings, role, "postgres")()
    async with await AsyncConnection.connect(connection_url(settings.postgres())) as connection:
        for table in ("candles_1m", "webhook_alerts"):
            cursor = await connection.execute(SQL("SELECT count(*) FROM {}").format(Identifier(table)))
            assert await cursor.fetchone() == (0,)


async def test_a_broker_without_our_topics_is_down(settings: Settings) -> None:
    with pytest.raises(ServerUnreachable, match="no leader"):
        await ask(settings, "collector", "kafka")()
    await ensure_topics(settings.kafka())
    await ask(settings, "collector", "kafka")()


async def test_redis_that_answers_and_stores_nothing_is_down(own_stack: EmbeddedStack) -> None:
    settings = settings_for(own_stack.urls)
    await prepare(settings)
    async with (
        connect_redis(settings.server_urls().redis) as redis,
        running_sidecar(settings, IMPATIENT) as client,
    ):
        await redis.config_set("maxmemory", "1")
        await redis.ping()
        with pytest.raises(Exception, match="maxmemory"):
            await ask(settings, "alerts", "redis")()
        await eventually(lambda: is_told(client, "redis", 200))


async def test_the_sidecar_serves_from_a_database_that_takes_no_writes_and_says_that_it_is_down(
    settings: Settings,
) -> None:
    await prepare(settings)
    async with running_sidecar(standby(settings), IMPATIENT) as client:
        await eventually(lambda: is_told(client, "postgres", 503))
        assert (await client.get("/health/ready"))[0] == 200
        assert (await client.get("/api/alerts"))[0] == 200
