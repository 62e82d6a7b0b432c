"""Every Prometheus metric, by the role that fills it. Dashboards and alert rules rely on the names.

Each function gives the metrics of one role on a registry, the same objects whenever it is called for that
registry again. Durations are seconds; counters end in `_total`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final, Protocol, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS_S: Final = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0,
)  # fmt: skip
"""From one stage to another, and requests."""
COMPUTE_BUCKETS_S: Final = (
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0,
)  # fmt: skip
"""Work on one frame."""
INSERT_BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

Metrics = TypeVar("Metrics", covariant=True)


class OfRegistry(Protocol[Metrics]):
    """Gives the metrics of a role on a registry: those of the process unless another is named."""

    def __call__(self, registry: CollectorRegistry = REGISTRY) -> Metrics: ...


def _once_per_registry(make: Callable[[CollectorRegistry], Metrics]) -> OfRegistry[Metrics]:
    made = cache(make)

    def metrics(registry: CollectorRegistry = REGISTRY) -> Metrics:
        # a cache around this function would take a call without the default registry for another than one with it
        return made(registry)

    return metrics


@dataclass(frozen=True, slots=True)
class PipelineMetrics:
    """What every stage counts. `stage` is bridge, collector, calculator, alerts, sinks or sidecar."""

    frames: Counter
    """{stage}: frames read."""
    rows: Counter
    """{stage}: rows in those frames."""
    dead_letters: Counter
    """{stage, reason}"""
    stage_latency: Histogram
    """{stage}: from the time the data was first seen (ingest_ts_ms) to this stage being done with it."""
    gaps: Counter
    """Minutes found missing between two closed candles of a symbol."""
    corrections: Counter
    """Closed candles that replaced a different closed candle of their minute."""
    duplicates: Counter
    """Closed candles that changed nothing."""
    cooldown_fallbacks: Counter
    """Cooldowns decided from the worker's own memory because Redis did not answer."""
    cooldown_degraded: Gauge
    """1 while Redis does not answer and cooldowns come from the worker's own memory, else 0."""
    snapshots_unusable: Counter
    """{stage}: stored state that could not be read after a start, and was done without."""
    consumer_lag: Gauge
    """{stage, topic, partition}: records not yet read."""


@_once_per_registry
def pipeline_metrics(registry: CollectorRegistry) -> PipelineMetrics:
    return PipelineMetrics(
        frames=Counter("screener_frames_total", "Frames read", ["stage"], registry=registry),
        rows=Counter("screener_rows_total", "Rows in the frames read", ["stage"], registry=registry),
        dead_letters=Counter(
            "screener_dead_letters_total",
            "Messages that could not be used",
            ["stage", "reason"],
            registry=registry,
        ),
        stage_latency=Histogram(
            "screener_stage_latency_seconds",
            "From first sight of the data to the stage being done with it",
            ["stage"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        ),
        gaps=Counter("screener_gaps_total", "Minutes missing between closed candles", registry=registry),
        corrections=Counter(
            "screener_corrections_total", "Closed candles replaced by different ones", registry=registry
        ),
        duplicates=Counter(
            "screener_duplicates_total", "Closed candles that changed nothing", registry=registry
        ),
        cooldown_fallbacks=Counter(
            "screener_cooldown_fallbacks_total", "Cooldowns decided without Redis", registry=registry
        ),
        cooldown_degraded=Gauge(
            "screener_cooldown_degraded", "1 while cooldowns are decided without Redis", registry=registry
        ),
        snapshots_unusable=Counter(
            "screener_snapshots_unusable_total",
            "Stored state that could not be read after a start",
            ["stage"],
            registry=registry,
        ),
        consumer_lag=Gauge(
            "screener_consumer_lag_records",
            "Records not yet read",
            ["stage", "topic", "partition"],
            registry=registry,
        ),
    )


@dataclass(frozen=True, slots=True)
class NatsMetrics:
    published: Counter
    received: Counter
    publish_errors: Counter


@_once_per_registry
def nats_metrics(registry: CollectorRegistry) -> NatsMetrics:
    return NatsMetrics(
        published=Counter("nats_messages_published_total", "Messages published to NATS", registry=registry),
        received=Counter("nats_messages_received_total", "Messages received from NATS", registry=registry),
        publish_errors=Counter(
            "nats_publish_errors_total", "Publications NATS did not accept", registry=registry
        ),
    )


@dataclass(frozen=True, slots=True)
class FeedMetrics:
    """The connections to the exchange (or the simulated market)."""

    connections: Gauge
    reconnects: Counter
    errors: Counter


@_once_per_registry
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
class CollectorMetrics:
    candles_received: Counter
    candles_published: Counter


@_once_per_registry
def collector_metrics(registry: CollectorRegistry) -> CollectorMetrics:
    return CollectorMetrics(
        candles_received=Counter(
            "data_collector_candles_received_total", "Candles the collector read", registry=registry
        ),
        candles_published=Counter(
            "data_collector_candles_published_total", "Candles the collector passed on", registry=registry
        ),
    )


@dataclass(frozen=True, slots=True)
class CalculatorMetrics:
    candles_processed: Counter
    metrics_calculated: Counter
    calculation_duration: Histogram
    """Per frame."""
    ring_minutes: Gauge
    """{shard}: minutes of history held."""


@_once_per_registry
def calculator_metrics(registry: CollectorRegistry) -> CalculatorMetrics:
    return CalculatorMetrics(
        candles_processed=Counter(
            "metrics_calculator_candles_processed_total", "Candles taken into the market", registry=registry
        ),
        metrics_calculated=Counter(
            "metrics_calculator_metrics_calculated_total", "Rows of metrics computed", registry=registry
        ),
        calculation_duration=Histogram(
            "metrics_calculator_calculation_duration_seconds",
            "Computing the metrics of one frame",
            buckets=COMPUTE_BUCKETS_S,
            registry=registry,
        ),
        ring_minutes=Gauge(
            "metrics_calculator_ring_buffer_size", "Minutes of history held", ["shard"], registry=registry
        ),
    )


@dataclass(frozen=True, slots=True)
class AlertMetrics:
    evaluated: Counter
    """Rows the rules were evaluated on."""
    triggered: Counter
    """{rule_type}: alerts published."""
    duplicated: Counter
    """Alerts held back: inside the cooldown, or of a minute that already had one."""
    evaluation_duration: Histogram
    """All rules on one frame."""
    webhooks_sent: Counter
    webhooks_failed: Counter


@_once_per_registry
def alert_metrics(registry: CollectorRegistry) -> AlertMetrics:
    return AlertMetrics(
        evaluated=Counter("alert_engine_alerts_evaluated_total", "Rows evaluated", registry=registry),
        triggered=Counter(
            "alert_engine_alerts_triggered_total", "Alerts published", ["rule_type"], registry=registry
        ),
        duplicated=Counter(
            "alert_engine_alerts_duplicated_total", "Alerts held back as repeats", registry=registry
        ),
        evaluation_duration=Histogram(
            "alert_engine_evaluation_duration_seconds",
            "Evaluating all rules on one frame",
            buckets=COMPUTE_BUCKETS_S,
            registry=registry,
        ),
        webhooks_sent=Counter("alert_engine_webhooks_sent_total", "Webhooks delivered", registry=registry),
        webhooks_failed=Counter(
            "alert_engine_webhooks_failed_total", "Webhooks not delivered", registry=registry
        ),
    )


@dataclass(frozen=True, slots=True)
class DatabaseMetrics:
    queries: Counter
    """{operation}"""
    errors: Counter
    """{operation}"""
    insert_duration: Histogram
    """{table}: one batch."""
    pool_size: Gauge
    """{state}: `open` connections of the pool, and those `in_use`."""


@_once_per_registry
def database_metrics(registry: CollectorRegistry) -> DatabaseMetrics:
    return DatabaseMetrics(
        queries=Counter("database_queries_total", "Queries run", ["operation"], registry=registry),
        errors=Counter("database_errors_total", "Queries that failed", ["operation"], registry=registry),
        insert_duration=Histogram(
            "metrics_calculator_db_insert_duration_seconds",
            "Writing one batch to the database",
            ["table"],
            buckets=INSERT_BUCKETS_S,
            registry=registry,
        ),
        pool_size=Gauge(
            "database_connection_pool_size", "Connections of the pool", ["state"], registry=registry
        ),
    )


@dataclass(frozen=True, slots=True)
class GatewayMetrics:
    """The sidecar's."""

    http_requests: Counter
    """{method, route, status}; `route` is the pattern, never the path asked for."""
    http_duration: Histogram
    """{method, route}"""
    websocket_connections: Gauge
    websocket_sent: Counter
    websocket_failed: Counter
    """{reason}: messages not delivered, because the client was `slow`, `gone`, or `closed` by us."""


@_once_per_registry
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
    )
