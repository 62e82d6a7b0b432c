"""Every address of the sidecar: what answers, who may call it, and what counts against the rate limit."""

from __future__ import annotations

from app.sidecar.explain_endpoint import ExplainEndpoint
from app.sidecar.health_pages import HealthPages
from app.sidecar.klines import KlinesEndpoint
from app.sidecar.known_rules import KnownRules
from app.sidecar.openapi import openapi_response
from app.sidecar.page import page_response
from app.sidecar.parts import Parts
from app.sidecar.rest import AlertsEndpoint, MetricsEndpoint
from app.sidecar.routing import Access, Route
from app.sidecar.rules_endpoint import RulesEndpoint
from app.sidecar.screener import ScreenerEndpoint
from app.sidecar.settings_endpoint import SettingsEndpoint
from app.sidecar.universe import SymbolsEndpoint, TickersEndpoint
from app.sidecar.webhook_endpoint import WebhookEndpoint
from app.telemetry.catalogue import RolePage
from app.tickers import TickerStore
from app.webhooks.targets import AllowedHosts


def routes_of(parts: Parts) -> tuple[Route, ...]:
    rules = KnownRules(parts.database)
    return (
        *_pages(parts),
        *_reads(parts),
        *_rules(parts, rules),
        *_users(parts, rules),
        *_websockets(parts),
    )


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
    tickers = TickersEndpoint(TickerStore(parts.redis, parts.settings))
    return tuple(
        Route("GET", path, handler, Access.PUBLIC)
        for path, handler in (
            ("/api/alerts", alerts.get),
            ("/api/metrics", metrics.get_all),
            ("/api/metrics/{symbol}", metrics.get_one),
            ("/api/screener", ScreenerEndpoint(parts.latest).get),
            ("/api/symbols", SymbolsEndpoint(parts.latest).get),
            ("/api/klines", KlinesEndpoint(parts.database, parts.latest).get),
            ("/api/tickers", tickers.get),
            ("/api/openapi.json", openapi_response),
        )
    )


def _rules(parts: Parts, known: KnownRules) -> tuple[Route, ...]:
    rules = RulesEndpoint(parts.database, known)
    explanations = ExplainEndpoint(parts.database, parts.latest, known)
    return (
        Route("GET", "/api/rules", rules.get_all, Access.PUBLIC),
        Route("POST", "/api/rules", rules.create, Access.ADMIN),
        Route("GET", "/api/rules/{rule_type}", rules.get_one, Access.PUBLIC),
        Route("PUT", "/api/rules/{rule_type}", rules.replace, Access.ADMIN),
        Route("DELETE", "/api/rules/{rule_type}", rules.delete, Access.ADMIN),
        Route("GET", "/api/explain", explanations.get, Access.PUBLIC),
    )


def _users(parts: Parts, rules: KnownRules) -> tuple[Route, ...]:
    settings = SettingsEndpoint(parts.database, rules, AllowedHosts.of(parts.settings), parts.clock)
    webhook = WebhookEndpoint(parts.database, parts.settings, parts.clock)
    return (
        Route("GET", "/api/settings", settings.get, Access.USER),
        Route("POST", "/api/settings", settings.change, Access.USER),
        Route("GET", "/api/webhook", webhook.get, Access.USER),
        Route("POST", "/api/webhook", webhook.change, Access.USER),
        Route("POST", "/api/webhook/secret", webhook.rotate, Access.USER),
        Route("POST", "/api/webhook/test", webhook.test, Access.USER),
        Route("GET", "/api/webhook/deliveries", webhook.list_deliveries, Access.USER),
        Route("GET", "/api/webhook/deliveries/{delivery_id}", webhook.show_delivery, Access.USER),
        Route("POST", "/api/webhook/deliveries/{delivery_id}", webhook.redeliver, Access.USER),
    )


def _websockets(parts: Parts) -> tuple[Route, ...]:
    """They have limits of their own: a connection is one request, whatever comes over it."""
    return tuple(
        Route("GET", path, handler, Access.PUBLIC, limited=False, websocket=True)
        for path, handler in (("/ws", parts.channel_stream.handle), ("/ws/alerts", parts.alert_stream.handle))
    )
