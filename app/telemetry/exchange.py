"""The exchange and NATS: where candles come from."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge

from app.telemetry.registry import once_per_registry


@dataclass(frozen=True, slots=True)
class FeedMetrics:
    """The role `feed`: its connections to the exchange, and what it owes."""

    connections: Gauge
    connection_state: Gauge
    """{connection, state}: 1 for the state a connection is in, 0 for the others."""
    reconnects: Counter
    errors: Counter
    updates: Counter
    """{kind}: candles read from sockets, `forming` and `closed`."""
    unreadable: Counter
    dropped: Counter
    """Forming candles left out because newer ones of their symbol were there, or no room."""
    symbols: Gauge
    owed_minutes: Gauge
    backfilled_minutes: Counter
    given_up_minutes: Counter
    rest_requests: Counter
    """{outcome}: ok, refused, limited, failed."""
    rest_used_weight: Gauge
    rest_paused: Gauge


@once_per_registry
def feed_metrics(registry: CollectorRegistry) -> FeedMetrics:
    return FeedMetrics(
        connections=Gauge(
            "data_collector_websocket_connections", "Open exchange connections", registry=registry
        ),
        connection_state=Gauge(
            "screener_feed_connection_state",
            "1 for the state an exchange connection is in",
            ["connection", "state"],
            registry=registry,
        ),
        reconnects=Counter(
            "data_collector_websocket_reconnects_total",
            "Exchange connections opened again",
            registry=registry,
        ),
        errors=Counter(
            "data_collector_websocket_errors_total", "Exchange connection errors", registry=registry
        ),
        updates=Counter(
            "screener_feed_updates_total", "Candles read from exchange sockets", ["kind"], registry=registry
        ),
        unreadable=Counter(
            "screener_feed_unreadable_frames_total",
            "Frames of exchange sockets that are no message of the protocol",
            registry=registry,
        ),
        dropped=Counter(
            "screener_feed_dropped_updates_total",
            "Forming candles left out: an older one than was sent, or no room while NATS is away",
            registry=registry,
        ),
        symbols=Gauge("screener_feed_symbols", "Symbols followed", registry=registry),
        owed_minutes=Gauge(
            "screener_feed_owed_minutes",
            "Closed minutes that the exchange has had time to send and that are not there",
            registry=registry,
        ),
        backfilled_minutes=Counter(
            "screener_feed_backfilled_minutes_total", "Closed minutes fetched over REST", registry=registry
        ),
        given_up_minutes=Counter(
            "screener_feed_given_up_minutes_total",
            "Closed minutes that the exchange does not give",
            registry=registry,
        ),
        rest_requests=Counter(
            "screener_feed_rest_requests_total",
            "REST requests to the exchange",
            ["outcome"],
            registry=registry,
        ),
        rest_used_weight=Gauge(
            "screener_feed_rest_used_weight", "Request weight used in this minute", registry=registry
        ),
        rest_paused=Gauge(
            "screener_feed_rest_paused",
            "1 while the exchange asks us to send no requests, else 0",
            registry=registry,
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
