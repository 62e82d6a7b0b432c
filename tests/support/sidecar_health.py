"""The health that a sidecar tells, and roles that give signs of life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.clock import SystemClock
from app.process.health.signs import SignsOfLife
from app.settings import Settings
from app.sidecar.state.limits import SidecarLimits
from tests.support.sidecar import Client

IMPATIENT = SidecarLimits(dependency_check_s=0.1, dependency_timeout_s=1.0, settle_s=1.0)
NEEDED_ROLES = ("bridge", "collector", "calculator", "alerts", "sinks")


async def health(client: Client) -> tuple[int, str, dict[str, str]]:
    """Return the status of the answer, the word for the whole, and the state of each server."""
    status, body = await client.get("/api/health")
    return status, body["status"], {name: one["state"] for name, one in body["dependencies"].items()}


async def states(client: Client) -> dict[str, str]:
    """Return the state of each stage."""
    _, body = await client.get("/api/health")
    return {name: stage["state"] for name, stage in body["stages"].items()}


@asynccontextmanager
async def signs_of_life(settings: Settings, *roles: str) -> AsyncIterator[None]:
    """Give signs of life as the processes of these roles do."""
    giving = asyncio.create_task(SignsOfLife(settings.redis(), roles, SystemClock()).run(lambda: True))
    try:
        yield
    finally:
        giving.cancel()
        await asyncio.wait([giving])
