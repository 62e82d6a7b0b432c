"""Every address of the sidecar: what answers, who may call it, and what counts against the rate limit."""

from __future__ import annotations

from app.sidecar.health_pages import HealthPages
from app.sidecar.page import page_response
from app.sidecar.parts import Parts
from app.sidecar.rest import AlertsEndpoint, MetricsEndpoint
from app.sidecar.routing import Access, Route
from app.telemetry.catalogue import RolePage


def routes_of(parts: Parts) -> tuple[Route, ...]:
    return (*_pages(parts), *_reads(parts), *_websockets(parts))


def _pages(parts: Parts) -> tuple[Route, ...]:
    """Asked by machines that must not be turned away, and the page."""

    def sizes() -> dict[str, object]:
        return {
            "alerts": {"remembered": len(parts.alerts), "newest_seq": parts.alerts.newest_seq},
            "symbols": len(parts.latest),
            "websocket_clients": len(parts.clients),
        }

    health = HealthPages(parts.health, RolePage(parts.registry, "sidecar"), sizes)
    return tuple(
        Route("GET", path, handler, Access.PUBLIC, limited=False)
        for path, handler in (
            ("/", page_response),
            ("/api/health", health.report),
            ("/health", health.report),
            ("/health/live", health.live),
            ("/health/ready", health.ready),
            ("/metrics", health.metrics),
        )
    )


def _reads(parts: Parts) -> tuple[Route, ...]:
    alerts, metrics = AlertsEndpoint(parts.history), MetricsEndpoint(parts.latest)
    return tuple(
        Route("GET", path, handler, Access.PUBLIC)
        for path, handler in (
            ("/api/alerts", alerts.get),
            ("/api/metrics", metrics.get_all),
            ("/api/metrics/{symbol}", metrics.get_one),
        )
    )


def _websockets(parts: Parts) -> tuple[Route, ...]:
    """They have limits of their own: a connection is one request, whatever comes over it."""
    return tuple(
        Route("GET", path, handler, Access.PUBLIC, limited=False, websocket=True)
        for path, handler in (("/ws", parts.channel_stream.handle), ("/ws/alerts", parts.alert_stream.handle))
    )
