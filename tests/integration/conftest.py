"""The fixtures of several modules here."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.settings import Settings
from tests.support.webhooks import Outbox, outbox


@pytest.fixture
async def box(settings: Settings) -> AsyncIterator[Outbox]:
    """The webhooks of a migrated database, with a clock that stands still."""
    async with outbox(settings) as made:
        yield made
