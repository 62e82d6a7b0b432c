"""The real servers of a test run: one embedded stack a session, one namespace a test."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from app.settings import Settings
from app.stack.embedded import EmbeddedStack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """NATS, Redis, PostgreSQL and the Kafka-protocol broker, shared by all tests: leave them running."""
    with EmbeddedStack.start(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def settings(stack: EmbeddedStack) -> Iterator[Settings]:
    """Settings for the shared servers in a fresh namespace, so that tests meet in no topic, key or table."""
    yield settings_for(stack.urls)
    assert stack.faults() == ()


def settings_for(urls: dict[str, str], **overrides: object) -> Settings:
    """Settings for servers at `urls` in a fresh namespace; `overrides` win, no variable counts."""
    given = {f"{server}_url": url for server, url in urls.items()}
    return Settings.load({}, **({"namespace": f"t_{uuid4().hex[:12]}"} | given | overrides))
