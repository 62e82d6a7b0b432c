"""The exchange and NATS: where candles come from."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge

from app.telemetry.registry import once_per_registry


@dataclass(frozen=True, slots=True)
class FeedMetrics:
    """The connections to the exchange (or the simulated market)."""

    connections: Gauge
    reconnects: Counter
    errors: Counter


@once_per_registry
def feed_metrics(registry: CollectorRegistry) -> FeedMetrics:
    return FeedMetrics(
        connections=Gauge(
            "data_collector_websocket_connections", "Open exchange connections", registry=registry
        ),
        reconnects=Counter(
            "data_collector_websocket_reconnects_total",
            "Exchange connections opened again",
            registry=registry,
        ),
        errors=Counter(
            "data_collector_websocket_errors_total", "Exchange connection errors", registry=registry
        ),
    )


@dataclass(frozen=True, slots=True)
class NatsMetrics:
    published: Counter
    received: Counter
    publish_errors: Counter
    pending: Gauge
    """Messages of the stream that the bridges' shared consumer was not given yet or has not acknowledged."""


@once_per_registry
def nats_metrics(registry: CollectorRegistry) -> NatsMetrics:
    return NatsMetrics(
        published=Counter("nats_messages_published_total", "Messages published to NATS", registry=registry),
        received=Counter("nats_messages_received_total", "Messages received from NATS", registry=registry),
        publish_errors=Counter(
            "nats_publish_errors_total", "Publications NATS did not accept", registry=registry
        ),
        pending=Gauge(
            "nats_consumer_pending_messages",
            "Messages of the stream that the bridges have not dealt with",
            registry=registry,
        ),
    )
