"""Every address of the sidecar: its handler, who may call it, and whether it counts against the rate limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiohttp import web

from app.sidecar.http.openapi import openapi_response
from app.sidecar.http.page import PageFiles
from app.sidecar.http.route_table import Access, Route, plain_cost
from app.sidecar.rest.alert_export import AlertExportEndpoint
from app.sidecar.rest.alerts_and_metrics import AlertsEndpoint, MetricsEndpoint
from app.sidecar.rest.backtest import BacktestEndpoint
from app.sidecar.rest.explain import ExplainEndpoint
from app.sidecar.rest.health_pages import HealthPages
from app.sidecar.rest.klines import KlinesEndpoint
from app.sidecar.rest.language import check_response, language_response
from app.sidecar.rest.me import MeEndpoint
from app.sidecar.rest.rule_history import RuleHistoryEndpoint
from app.sidecar.rest.rules import RulesEndpoint
from app.sidecar.rest.screener import ScreenerEndpoint
from app.sidecar.rest.settings import SettingsEndpoint
from app.sidecar.rest.universe import SymbolsEndpoint, TickersEndpoint
from app.sidecar.rest.webhook import WebhookEndpoint
from app.sidecar.state.parts import Parts
from app.sidecar.state.rules import RuleList

EXPORT_COST: Final = 10
WHOLE_MARKET_COST: Final = 10
"""In requests: the answer is megabytes to encode and to send."""
SCREENER_COST: Final = 3
EXPLAIN_COST: Final = 3
BACKTEST_COST: Final = 5
ACTIVITY_COST: Final = 2
KLINES_COST: Final = 2


def costing(requests: int) -> Callable[[web.Request], int]:
    return lambda _: requests


def _metrics_cost(request: web.Request) -> int:
    return plain_cost(request) if "symbol" in request.query else WHOLE_MARKET_COST


def routes_of(parts: Parts) -> tuple[Route, ...]:
    rules = RuleList(parts.database)
    return (
        *_pages(parts),
        *_reads(parts),
        *_rules(parts, rules),
        *_users(parts, rules),
        *_websockets(parts),
    )


def _pages(parts: Parts) -> tuple[Route, ...]:
    """Return the routes without a limit: the page, and the ones for machines that must never be rejected."""

    def sizes() -> dict[str, object]:
        return {
            "alerts": {"remembered": len(parts.alerts), "newest_seq": parts.alerts.newest_seq},
            "symbols": len(parts.latest),
            "websocket_clients": len(parts.clients),
        }

    health = HealthPages(parts.health, parts.registry, sizes)
    page = PageFiles()
    return tuple(
        Route("GET", path, handler, Access.PUBLIC, limited=False)
        for path, handler in (
            ("/", page.index),
            ("/page/{name}", page.part),
            ("/api/health", health.report),
            ("/health", health.report),
            ("/health/live", health.live),
            ("/health/ready", health.ready),
            ("/metrics", health.metrics),
        )
    )


def _reads(parts: Parts) -> tuple[Route, ...]:
    alerts, metrics = AlertsEndpoint(parts.history), MetricsEndpoint(parts.latest)
    tickers = TickersEndpoint(parts.tickers)
    return tuple(
        Route("GET", path, handler, Access.PUBLIC, cost=cost)
        for path, handler, cost in (
            ("/api/alerts", alerts.get, plain_cost),
            ("/api/alert-export", AlertExportEndpoint(parts.history).get, costing(EXPORT_COST)),
            ("/api/metrics", metrics.get_all, _metrics_cost),
            ("/api/metrics/{symbol}", metrics.get_one, plain_cost),
            (
                "/api/screener",
                ScreenerEndpoint(parts.latest, parts.database, parts.sealed).get,
                costing(SCREENER_COST),
            ),
            ("/api/symbols", SymbolsEndpoint(parts.latest).get, plain_cost),
            ("/api/klines", KlinesEndpoint(parts.database, parts.latest).get, costing(KLINES_COST)),
            ("/api/tickers", tickers.get, plain_cost),
            ("/api/openapi.json", openapi_response, plain_cost),
        )
    )


def _rules(parts: Parts, known: RuleList) -> tuple[Route, ...]:
    rules = RulesEndpoint(parts.database, known, parts.rule_states, parts.rules_values_max)
    explanations = ExplainEndpoint(
        parts.database, parts.latest, known, parts.rule_states, parts.alerts, parts.sealed
    )
    backtests = BacktestEndpoint(parts.database, parts.latest, parts.trials, parts.clock)
    history = RuleHistoryEndpoint(parts.database, parts.clock)
    return (
        Route("GET", "/api/language", language_response, Access.PUBLIC),
        Route("GET", "/api/check", check_response, Access.PUBLIC),
        Route("GET", "/api/backtest", backtests.get, Access.PUBLIC, cost=costing(BACKTEST_COST)),
        Route("GET", "/api/rules", rules.get_all, Access.PUBLIC),
        Route("POST", "/api/rules", rules.create, Access.ADMIN),
        Route("GET", "/api/rules/{rule_type}", rules.get_one, Access.PUBLIC),
        Route("PUT", "/api/rules/{rule_type}", rules.replace, Access.ADMIN),
        Route("DELETE", "/api/rules/{rule_type}", rules.delete, Access.ADMIN),
        Route("GET", "/api/rules/{rule_type}/versions", history.versions, Access.PUBLIC),
        Route("GET", "/api/rule-activity", history.activity, Access.PUBLIC, cost=costing(ACTIVITY_COST)),
        Route("GET", "/api/explain", explanations.get, Access.PUBLIC, cost=costing(EXPLAIN_COST)),
    )


def _users(parts: Parts, rules: RuleList) -> tuple[Route, ...]:
    settings = SettingsEndpoint(parts.database, rules, parts.clock)
    webhook = WebhookEndpoint(parts.database, parts.clock)
    me = MeEndpoint(parts.database)
    return (
        Route("GET", "/api/me", me.get, Access.USER),
        Route("PUT", "/api/me", me.put, Access.USER),
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
    """Return the WebSocket routes. They have their own limits: a connection is one request, with any number of
    messages."""
    return tuple(
        Route("GET", path, handler, Access.PUBLIC, limited=False, websocket=True)
        for path, handler in (("/ws", parts.channel_stream.handle), ("/ws/alerts", parts.alert_stream.handle))
    )
