"""GET /health and its parts, and GET /metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry

from app.sidecar.http.responses import private_json
from app.sidecar.state.health import Health
from app.telemetry.health_server import metrics_response, state_response


class HealthPages:
    def __init__(
        self, health: Health, registry: CollectorRegistry, sizes: Callable[[], Mapping[str, object]]
    ) -> None:
        """sizes: the present sizes of the sidecar's collections, for the page of health."""
        self._health = health
        self._registry = registry
        self._sizes = sizes

    async def report(self, _: web.Request) -> web.Response:
        report, works = self._health.report()
        return private_json(orjson.dumps(report | dict(self._sizes())), status=200 if works else 503)

    async def live(self, _: web.Request) -> web.Response:
        return state_response("live", self._health.live)

    async def ready(self, _: web.Request) -> web.Response:
        return state_response("ready", self._health.ready)

    async def metrics(self, _: web.Request) -> web.Response:
        return metrics_response(self._registry)
