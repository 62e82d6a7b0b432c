"""A client of the earlier gateway, at the legacy port of a running sidecar."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from app.settings import Settings
from tests.support.sidecar import Client, running_sidecar


@asynccontextmanager
async def running_gateway(
    settings: Settings, *, rate_limited: bool = False, **given: Any
) -> AsyncIterator[Client]:
    """Run a sidecar with the legacy port; yield a client of that port. `given` overrides settings."""
    settings = settings.model_copy(update={"legacy_port": 0} | given)
    async with running_sidecar(settings, rate_limited=rate_limited) as main:
        url = f"http://127.0.0.1:{main.sidecar.legacy_port}"
        async with aiohttp.ClientSession(url) as session:
            yield Client(main.sidecar, session)
