"""The real servers of a test run: one embedded stack per session, one namespace per test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from app.local.servers.embedded import EmbeddedStack
from app.replay.namespace import drop_namespace
from app.settings import Settings

POSTGRES_URL = "TEST_POSTGRES_URL"
ELSEWHERE = {
    "postgres": POSTGRES_URL,
    "redis": "TEST_REDIS_URL",
    "nats": "TEST_NATS_URL",
}
"""Server -> environment variable for the URL of another server, which replaces the embedded one. The user of that
PostgreSQL needs only the right to create schemas and temporary tables."""


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """NATS, Redis, PostgreSQL and the Kafka-protocol broker, shared by all tests: leave them running."""
    with EmbeddedStack.start(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def settings(stack: EmbeddedStack, tmp_path: Path) -> Iterator[Settings]:
    """Settings for the shared servers in a fresh namespace, so that tests share no topic, key or table."""
    with fresh_namespace(stack, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def module_settings(stack: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Like `settings`, for a module whose tests share a namespace."""
    with fresh_namespace(stack, tmp_path_factory.mktemp("module")) as made:
        yield made


@contextmanager
def fresh_namespace(stack: EmbeddedStack, directory: Path) -> Iterator[Settings]:
    elsewhere = {server: url for server, name in ELSEWHERE.items() if (url := os.environ.get(name))}
    made = settings_for(stack.urls | elsewhere)
    yield made
    if elsewhere:
        asyncio.run(drop_namespace(made.servers(), directory))
    if "postgres" in elsewhere:
        _drop_schemas(elsewhere["postgres"], made.database_schema)
    assert stack.faults() == ()


def _drop_schemas(url: str, prefix: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", (prefix,)
        )
        for (schema,) in found.fetchall():
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


def settings_for(urls: dict[str, str], **overrides: object) -> Settings:
    """Return settings for servers at `urls` in a fresh namespace, with two partitions. `overrides` take precedence; the
    environment is ignored."""
    given = {f"{server}_url": url for server, url in urls.items()}
    return Settings.load({}, **({"namespace": f"t_{uuid4().hex[:12]}", "partitions": 2} | given | overrides))
