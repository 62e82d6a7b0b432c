"""Metrics of the exchange and of NATS."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge

from app.telemetry.registry import from_zero, once_per_registry


@dataclass(frozen=True, slots=True)
class FeedMetrics:
    """Metrics of the role `feed`: its connections to the exchange, and the minutes it owes."""

    connections: Gauge
    connection_state: Gauge
    """{connection, state}: 1 for the current state of a connection, 0 for other states."""
    reconnects: Counter
    errors: Counter
    updates: Counter
    """{kind}: candles read from sockets, `forming` and `closed`."""
    unreadable: Counter
    dropped: Counter
    """Forming candles dropped because a newer candle of their symbol was sent, or the buffer was full."""
    ahead: Counter
    """{kind}: `future` candles from the future, passed on to be rejected; `closed` candles closed before their end."""
    clock_offset: Gauge
    """Seconds: the exchange's clock minus this machine's, at the last check."""
    symbols: Gauge
    left_out: Gauge
    """{reason}: listed contracts that the feed does not follow."""
    owed_minutes: Gauge
    backfilled_minutes: Counter
    given_up_minutes: Counter
    broken_bars: Gauge
    repaired_bars: Counter
    """{timeframe}: symbols whose indicators continue from the exchange's own bars after a missing minute."""
    rest_requests: Counter
    """{outcome}: ok, refused, limited, blocked, failed."""
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
            "1 for the current state of an exchange connection",
            ["connection", "state"],
            registry=registry,
        ),
        reconnects=Counter(
            "data_collector_websocket_reconnects_total",
            "Exchange connections reopened",
            registry=registry,
        ),
        errors=Counter(
            "data_collector_websocket_errors_total", "Exchange connection errors", registry=registry
        ),
        updates=from_zero(
            Counter(
                "screener_feed_updates_total",
                "Candles read from exchange sockets",
                ["kind"],
                registry=registry,
            ),
            "forming",
            "closed",
        ),
        unreadable=Counter(
            "screener_feed_unreadable_frames_total",
            "Invalid frames from exchange sockets",
            registry=registry,
        ),
        dropped=Counter(
            "screener_feed_dropped_updates_total",
            "Forming candles dropped: older than a sent candle, or the buffer was full while NATS was down",
            registry=registry,
        ),
        ahead=from_zero(
            Counter(
                "screener_feed_ahead_updates_total",
                "Candles ahead of the clock: from the future, or closed before their end",
                ["kind"],
                registry=registry,
            ),
            "future",
            "closed",
        ),
        clock_offset=Gauge(
            "screener_feed_clock_offset_seconds",
            "The exchange's clock minus this machine's, at the last check",
            registry=registry,
        ),
        symbols=Gauge("screener_feed_symbols", "Symbols followed", registry=registry),
        left_out=Gauge(
            "screener_feed_left_out_symbols",
            "Listed contracts that the feed does not follow",
            ["reason"],
            registry=registry,
        ),
        owed_minutes=Gauge(
            "screener_feed_owed_minutes",
            "Closed minutes that the exchange has had time to send and that have not arrived",
            registry=registry,
        ),
        backfilled_minutes=Counter(
            "screener_feed_backfilled_minutes_total", "Closed minutes fetched over REST", registry=registry
        ),
        given_up_minutes=Counter(
            "screener_feed_given_up_minutes_total",
            "Closed minutes that the exchange does not have",
            registry=registry,
        ),
        broken_bars=Gauge(
            "screener_feed_broken_bars",
            "Symbols and timeframes whose indicators wait for the exchange's own bar after a missing minute",
            registry=registry,
        ),
        repaired_bars=Counter(
            "screener_feed_repaired_bars_total",
            "Symbols whose indicators of a timeframe continued from the exchange's own bars after a missing minute",
            ["timeframe"],
            registry=registry,
        ),
        rest_requests=from_zero(
            Counter(
                "screener_feed_rest_requests_total",
                "REST requests to the exchange",
                ["outcome"],
                registry=registry,
            ),
            "ok",
            "refused",
            "limited",
            "blocked",
            "failed",
        ),
        rest_used_weight=Gauge(
            "screener_feed_rest_used_weight", "Request weight used in this minute", registry=registry
        ),
        rest_paused=Gauge(
            "screener_feed_rest_paused",
            "1 while the exchange asks for no requests, else 0",
            registry=registry,
        ),
    )


@dataclass(frozen=True, slots=True)
class NatsMetrics:
    published: Counter
    received: Counter
    publish_errors: Counter
    pending: Gauge
    """Messages of the stream that the bridges' shared consumer has not received or not acknowledged."""


@once_per_registry
def nats_metrics(registry: CollectorRegistry) -> NatsMetrics:
    return NatsMetrics(
        published=Counter("nats_messages_published_total", "Messages published to NATS", registry=registry),
        received=Counter("nats_messages_received_total", "Messages received from NATS", registry=registry),
        publish_errors=Counter(
            "nats_publish_errors_total", "Messages that NATS did not accept", registry=registry
        ),
        pending=Gauge(
            "nats_consumer_pending_messages",
            "Messages of the stream that the bridges have not processed",
            registry=registry,
        ),
    )
