"""GET /health and its parts, and GET /metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import orjson
from aiohttp import web

from app.observe import metrics_response, state_response
from app.sidecar.answers import private_json
from app.sidecar.health import Health
from app.telemetry.catalogue import RolePage


class HealthPages:
    def __init__(self, health: Health, metrics: RolePage, sizes: Callable[[], Mapping[str, object]]) -> None:
        """sizes: what the sidecar holds at the moment, for the page of health."""
        self._health = health
        self._metrics = metrics
        self._sizes = sizes

    async def report(self, _: web.Request) -> web.Response:
        report, works = self._health.report()
        return private_json(orjson.dumps(report | dict(self._sizes())), status=200 if works else 503)

    async def live(self, _: web.Request) -> web.Response:
        return state_response("live", self._health.live)

    async def ready(self, _: web.Request) -> web.Response:
        return state_response("ready", self._health.ready)

    async def metrics(self, _: web.Request) -> web.Response:
        return metrics_response(self._metrics)
