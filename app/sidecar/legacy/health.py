"""Health in the earlier gateway's form."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from aiohttp import web

from app.clock import Clock
from app.sidecar.legacy.reads import json_response
from app.sidecar.state.health import Health
from app.times import rfc3339

_CHECKS: Final = {"nats": "nats", "timescaledb": "postgres", "redis": "redis"}
"""Earlier name of a check -> the dependency."""


class HealthPages:
    def __init__(self, health: Health, clock: Clock) -> None:
        self._health = health
        self._clock = clock
        self._version = version("screener")

    async def report(self, _: web.Request) -> web.Response:
        """Answer 200 always: monitors of the earlier gateway read the fields."""
        report, works = self._health.report()
        up = {name: one["state"] == "up" for name, one in report["dependencies"].items()}
        return json_response(
            {
                "status": "ok" if works else "down",
                "db": up["postgres"],
                "nats": up["nats"],
                "version": self._version,
            }
        )

    async def live(self, _: web.Request) -> web.Response:
        alive = self._health.live
        return json_response(
            {"status": "alive" if alive else "stuck", "timestamp": self._now()}, 200 if alive else 503
        )

    async def ready(self, _: web.Request) -> web.Response:
        report, _works = self._health.report()
        ready = self._health.ready
        states = {check: report["dependencies"][name]["state"] for check, name in _CHECKS.items()}
        return json_response(
            {
                "status": "healthy" if ready else "unhealthy",
                "timestamp": self._now(),
                "checks": {name: "ok" if state == "up" else "error: down" for name, state in states.items()},
            },
            200 if ready else 503,
        )

    def _now(self) -> str:
        return rfc3339(self._clock.now_ms())
