"""Metrics of the sidecar: requests and WebSocket clients."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.telemetry.registry import LATENCY_BUCKETS_S, from_zero, once_per_registry


@dataclass(frozen=True, slots=True)
class SidecarMetrics:
    """Metrics of the sidecar."""

    http_requests: Counter
    """{method, route, status}; `route` is the pattern, never the requested path; an unknown HTTP method is
    `other`."""
    http_duration: Histogram
    """{method, route}"""
    rate_limited: Counter
    """{reason}: requests rejected because the `user` or the `address` made too many."""
    connections_cut: Counter
    """{reason}: connections rejected (`too_many`, `too_many_of_address`), or cut because the head of a request
    came too slowly (`slow_head`) or the client did not read an answer (`unread`)."""
    websocket_connections: Gauge
    websocket_sent: Counter
    websocket_failed: Counter
    """{reason}: messages not delivered because the client was `slow`, `silent`, `gone`, or `closed` by us."""
    websocket_closed: Counter
    """{code}: connections by close code; 1006 if there is no code, for example after a cut."""
    rule_failures: Counter
    """{rule_type}: rules that raised while they were explained; they are off until they are edited."""
    subject_messages: Counter
    """{subject}: messages that JetStream confirmed, on the subjects of the earlier system."""
    subject_failures: Counter
    """{subject}: faults of NATS or Kafka while these subjects were published; it is tried again."""
    waiting_s: Gauge
    """{role}: how long the oldest item waits that a role has not handled, as Kafka, NATS or the role itself report."""
    still_s: Gauge
    """{role}: how long items have waited while the role handles nothing at all."""


@once_per_registry
def sidecar_metrics(registry: CollectorRegistry) -> SidecarMetrics:
    return SidecarMetrics(
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
        rate_limited=from_zero(
            Counter(
                "api_gateway_rate_limited_total",
                "Requests rejected as too many",
                ["reason"],
                registry=registry,
            ),
            "user",
            "address",
        ),
        connections_cut=from_zero(
            Counter(
                "api_gateway_connections_cut_total",
                "Connections rejected, or cut because they hold too much",
                ["reason"],
                registry=registry,
            ),
            "too_many",
            "too_many_of_address",
            "slow_head",
            "unread",
        ),
        websocket_connections=Gauge(
            "api_gateway_websocket_connections", "Open WebSocket connections", registry=registry
        ),
        websocket_sent=Counter(
            "api_gateway_websocket_messages_sent_total",
            "Messages written to WebSocket clients",
            registry=registry,
        ),
        websocket_failed=from_zero(
            Counter(
                "api_gateway_websocket_messages_failed_total",
                "Messages that did not reach a WebSocket client",
                ["reason"],
                registry=registry,
            ),
            "slow",
            "silent",
            "gone",
            "closed",
        ),
        websocket_closed=from_zero(
            Counter(
                "api_gateway_websocket_closed_total",
                "Closed WebSocket connections, by close code",
                ["code"],
                registry=registry,
            ),
            "1000",
            "1001",
            "1006",
            "1008",
            "1011",
            "1012",
            "1013",
        ),
        rule_failures=Counter(
            "api_gateway_rule_failures_total",
            "Rules that raised while they were explained",
            ["rule_type"],
            registry=registry,
        ),
        subject_messages=Counter(
            "api_gateway_subject_messages_total",
            "Messages published on the subjects of the earlier system",
            ["subject"],
            registry=registry,
        ),
        subject_failures=Counter(
            "api_gateway_subject_failures_total",
            "Faults while the subjects of the earlier system were published",
            ["subject"],
            registry=registry,
        ),
        waiting_s=Gauge(
            "screener_role_waiting_seconds",
            "How long the oldest thing waits that the role has not handled",
            ["role"],
            registry=registry,
        ),
        still_s=Gauge(
            "screener_role_still_seconds",
            "How long something waits while the role handles nothing",
            ["role"],
            registry=registry,
        ),
    )
