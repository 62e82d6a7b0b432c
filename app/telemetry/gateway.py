"""The sidecar: requests and WebSocket clients."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.telemetry.registry import LATENCY_BUCKETS_S, once_per_registry


@dataclass(frozen=True, slots=True)
class GatewayMetrics:
    """The sidecar's."""

    http_requests: Counter
    """{method, route, status}; `route` is the pattern, never the path asked for; a method that HTTP does not
    know is `other`."""
    http_duration: Histogram
    """{method, route}"""
    rate_limited: Counter
    """{reason}: requests refused because the `user`, or the `address`, made too many."""
    websocket_connections: Gauge
    websocket_sent: Counter
    websocket_failed: Counter
    """{reason}: messages not delivered, because the client was `slow`, `silent`, `gone`, or `closed` by us."""
    websocket_closed: Counter
    """{code}: connections by the code with which they were closed; 1006 without one, as when they are cut."""


@once_per_registry
def gateway_metrics(registry: CollectorRegistry) -> GatewayMetrics:
    return GatewayMetrics(
        http_requests=Counter(
            "api_gateway_http_requests_total",
            "Requests answered",
            ["method", "route", "status"],
            registry=registry,
        ),
        http_duration=Histogram(
            "api_gateway_http_duration_seconds",
            "Answering a request",
            ["method", "route"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        ),
        rate_limited=Counter(
            "api_gateway_rate_limited_total", "Requests refused as too many", ["reason"], registry=registry
        ),
        websocket_connections=Gauge(
            "api_gateway_websocket_connections", "Open WebSocket connections", registry=registry
        ),
        websocket_sent=Counter(
            "api_gateway_websocket_messages_sent_total",
            "Messages written to WebSocket clients",
            registry=registry,
        ),
        websocket_failed=Counter(
            "api_gateway_websocket_messages_failed_total",
            "Messages that did not reach a WebSocket client",
            ["reason"],
            registry=registry,
        ),
        websocket_closed=Counter(
            "api_gateway_websocket_closed_total",
            "WebSocket connections that ended, by closing code",
            ["code"],
            registry=registry,
        ),
    )
