"""The sidecar's web application: its routes, and what happens around every request."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from app.sidecar.admission import admission
from app.sidecar.client_address import ClientAddresses
from app.sidecar.middlewares import (
    cross_origin,
    errors_as_json,
    http_metrics,
    limit_headers,
    request_ids,
    security_headers,
)
from app.sidecar.origins import Origins
from app.sidecar.parts import Parts
from app.sidecar.routes import routes_of
from app.sidecar.routing import RouteTable
from app.telemetry import gateway_metrics

_BODY_MAX_BYTES: Final = 64 * 1024


def create_app(parts: Parts) -> web.Application:
    """The routes over `parts`; what runs beside them is the caller's to run."""
    gateway = gateway_metrics(parts.registry)
    origins = Origins(parts.settings.allowed_origins)
    addresses = ClientAddresses(parts.settings.trusted_proxies)
    table = RouteTable(routes_of(parts))
    app = web.Application(
        middlewares=[
            request_ids(),
            security_headers(),
            http_metrics(gateway),
            cross_origin(origins, table),
            limit_headers(),
            errors_as_json(),
            admission(table, parts.verifier, addresses, parts.limiter, gateway),
        ],
        client_max_size=_BODY_MAX_BYTES,
    )
    table.add_to(app)

    async def stop_clients(_: web.Application) -> None:
        parts.health.stopping = True
        await parts.clients.drain()

    app.on_shutdown.append(stop_clients)
    return app
