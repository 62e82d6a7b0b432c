"""Metrics of the stages: the common ones, and metrics of the collector, the calculator, the alerts and the market."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.telemetry.registry import (
    COMPUTE_BUCKETS_S,
    LATENCY_BUCKETS_S,
    RECOVERY_BUCKETS_S,
    from_zero,
    once_per_registry,
)


@dataclass(frozen=True, slots=True)
class PipelineMetrics:
    """Metrics of every stage. `stage` is bridge, collector, calculator, alerts, sinks-TABLE or sidecar."""

    frames: Counter
    """{stage}: frames read."""
    rows: Counter
    """{stage}: rows in those frames."""
    dead_letters: Counter
    """{stage, reason}"""
    stage_latency: Histogram
    """{stage}: from the arrival of the data (ingest_ts_ms) until this stage finished it."""
    snapshots_unusable: Counter
    """{stage}: stored state that could not be read after a start, and was ignored."""
    quarantined: Counter
    """{stage}: records quarantined because the process ended at them three times."""
    consumer_lag: Gauge
    """{stage, topic, partition}: records not yet read."""
    recovery_duration: Histogram
    """{stage}: from the assignment of partitions until tables and state were rebuilt."""


@once_per_registry
def pipeline_metrics(registry: CollectorRegistry) -> PipelineMetrics:
    return PipelineMetrics(
        frames=Counter("screener_frames_total", "Frames read", ["stage"], registry=registry),
        rows=Counter("screener_rows_total", "Rows in the frames read", ["stage"], registry=registry),
        dead_letters=Counter(
            "screener_dead_letters_total",
            "Invalid messages",
            ["stage", "reason"],
            registry=registry,
        ),
        stage_latency=Histogram(
            "screener_stage_latency_seconds",
            "From the arrival of the data until the stage finished it",
            ["stage"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        ),
        snapshots_unusable=Counter(
            "screener_snapshots_unusable_total",
            "Stored state that could not be read after a start",
            ["stage"],
            registry=registry,
        ),
        quarantined=Counter(
            "screener_quarantined_total",
            "Records quarantined because the process ended at them three times",
            ["stage"],
            registry=registry,
        ),
        consumer_lag=Gauge(
            "screener_consumer_lag_records",
            "Records not yet read",
            ["stage", "topic", "partition"],
            registry=registry,
        ),
        recovery_duration=Histogram(
            "screener_recovery_duration_seconds",
            "From the assignment of partitions until their state was rebuilt",
            ["stage"],
            buckets=RECOVERY_BUCKETS_S,
            registry=registry,
        ),
    )


@dataclass(frozen=True, slots=True)
class CollectorMetrics:
    candles_received: Counter
    candles_published: Counter
    gaps: Counter
    """Minutes found missing between two closed candles of a symbol."""
    corrections: Counter
    """Closed candles that replaced a different closed candle of their minute."""
    duplicates: Counter
    """Closed candles that changed nothing."""
    closed_minutes: Counter
    """Closed candles of new minutes; the completeness of ingest is measured by them."""
    late: Counter
    """Closed candles of new minutes older than the newest minute of their symbol: filled gaps and history."""
    filled: Counter
    """Closed candles of minutes that were counted as missing before."""
    symbols: Gauge
    """{shard}: symbols known."""


@once_per_registry
def collector_metrics(registry: CollectorRegistry) -> CollectorMetrics:
    return CollectorMetrics(
        candles_received=Counter(
            "data_collector_candles_received_total", "Candles that the collector read", registry=registry
        ),
        candles_published=Counter(
            "data_collector_candles_published_total",
            "Candles that the collector published",
            registry=registry,
        ),
        gaps=Counter("screener_gaps_total", "Minutes missing between closed candles", registry=registry),
        corrections=Counter(
            "screener_corrections_total",
            "Closed candles replaced by different closed candles",
            registry=registry,
        ),
        duplicates=Counter(
            "screener_duplicates_total", "Closed candles that changed nothing", registry=registry
        ),
        closed_minutes=Counter(
            "data_collector_closed_minutes_total",
            "Closed candles of new minutes",
            registry=registry,
        ),
        late=Counter(
            "data_collector_late_minutes_total",
            "Closed candles of new minutes older than the newest of their symbol: filled gaps and history",
            registry=registry,
        ),
        filled=Counter(
            "data_collector_filled_minutes_total",
            "Missing minutes that arrived later",
            registry=registry,
        ),
        symbols=Gauge("data_collector_symbols", "Symbols known", ["shard"], registry=registry),
    )


@dataclass(frozen=True, slots=True)
class CalculatorMetrics:
    candles_processed: Counter
    metrics_calculated: Counter
    calculation_duration: Histogram
    """Per frame."""
    ring_minutes: Gauge
    """{shard}: capacity of the rings in minutes."""
    symbols: Gauge
    """{shard}: symbols in memory."""
    memory_bytes: Gauge
    """{shard}: bytes of all rolling state, including memory reserved for further symbols."""


@once_per_registry
def calculator_metrics(registry: CollectorRegistry) -> CalculatorMetrics:
    return CalculatorMetrics(
        candles_processed=Counter(
            "metrics_calculator_candles_processed_total", "Candles added to the market", registry=registry
        ),
        metrics_calculated=Counter(
            "metrics_calculator_metrics_calculated_total", "Rows of metrics computed", registry=registry
        ),
        calculation_duration=Histogram(
            "metrics_calculator_calculation_duration_seconds",
            "Time to compute the metrics of one frame",
            buckets=COMPUTE_BUCKETS_S,
            registry=registry,
        ),
        ring_minutes=Gauge(
            "metrics_calculator_ring_buffer_size",
            "Capacity of the rings in minutes",
            ["shard"],
            registry=registry,
        ),
        symbols=Gauge("metrics_calculator_symbols", "Symbols in memory", ["shard"], registry=registry),
        memory_bytes=Gauge(
            "metrics_calculator_memory_bytes",
            "Bytes of all rolling state",
            ["shard"],
            registry=registry,
        ),
    )


@dataclass(frozen=True, slots=True)
class AlertMetrics:
    evaluated: Counter
    """Rows on which the rules were evaluated."""
    triggered: Counter
    """{rule_type}: alerts published."""
    duplicated: Counter
    """Alerts suppressed: inside the cooldown, or of a minute that already had an alert."""
    evaluation_duration: Histogram
    """All rules on one frame."""
    cooldown_fallbacks: Counter
    """Cooldowns decided from the worker's own memory because Redis did not answer."""
    cooldown_degraded: Gauge
    """1 while Redis does not answer and cooldowns come from the worker's own memory, else 0."""
    alert_latency: Histogram
    """From the arrival of an alert's candle (ingest_ts_ms) until Kafka stored the alert."""
    rules: Gauge
    """Enabled active rules."""
    rules_refused: Gauge
    """Rules in the database that do not compile; the last valid form of each stays active."""
    rules_degraded: Gauge
    """1 while the database does not answer and the last known rules stay active, else 0."""
    rule_changes: Counter
    """{operation}: rules added, changed, removed or refused while running."""
    rule_failures: Counter
    """{rule_type}: times a rule raised and was switched off."""
    rules_switched_off: Gauge
    """Rules that raised in this worker and are off until they are edited."""


@once_per_registry
def alert_metrics(registry: CollectorRegistry) -> AlertMetrics:
    return AlertMetrics(
        evaluated=Counter("alert_engine_alerts_evaluated_total", "Rows evaluated", registry=registry),
        triggered=Counter(
            "alert_engine_alerts_triggered_total", "Alerts published", ["rule_type"], registry=registry
        ),
        duplicated=Counter(
            "alert_engine_alerts_duplicated_total", "Alerts suppressed as duplicates", registry=registry
        ),
        evaluation_duration=Histogram(
            "alert_engine_evaluation_duration_seconds",
            "Time to evaluate all rules on one frame",
            buckets=COMPUTE_BUCKETS_S,
            registry=registry,
        ),
        cooldown_fallbacks=Counter(
            "screener_cooldown_fallbacks_total", "Cooldowns decided without Redis", registry=registry
        ),
        cooldown_degraded=Gauge(
            "screener_cooldown_degraded", "1 while cooldowns are decided without Redis", registry=registry
        ),
        alert_latency=Histogram(
            "alert_engine_alert_latency_seconds",
            "From the arrival of the candle until Kafka stored its alert",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        ),
        rules=Gauge("alert_engine_rules", "Enabled active rules", registry=registry),
        rules_refused=Gauge(
            "alert_engine_rules_refused", "Stored rules that do not compile", registry=registry
        ),
        rules_degraded=Gauge(
            "alert_engine_rules_degraded",
            "1 while the last known rules are used without the database",
            registry=registry,
        ),
        rule_changes=from_zero(
            Counter(
                "alert_engine_rule_changes_total",
                "Rules changed while running",
                ["operation"],
                registry=registry,
            ),
            "added",
            "changed",
            "removed",
            "refused",
        ),
        rule_failures=Counter(
            "alert_engine_rule_failures_total",
            "Rules that raised and were switched off",
            ["rule_type"],
            registry=registry,
        ),
        rules_switched_off=Gauge(
            "alert_engine_rules_switched_off",
            "Rules that raised in this worker and are off until they are edited",
            registry=registry,
        ),
    )


@dataclass(frozen=True, slots=True)
class MarketMetrics:
    reading: Gauge
    """1 in the process that reads [metrics] and seals minutes, 0 in processes that stand by."""
    sealed_minute: Gauge
    """Open time of the newest sealed minute, UTC seconds."""
    sealed_symbols: Gauge
    """Symbols in the newest sealed minute."""
    missing_symbols: Counter
    """Symbols that a minute was sealed without although they were known the minute before."""
    late_rows: Counter
    """Closed rows of minutes that were sealed without them, corrections and history included."""
    takeovers: Counter
    """Times this process began to read."""
    partitions_not_awaited: Counter
    """Times minutes were sealed without a partition because it was silent for too long."""


@once_per_registry
def market_metrics(registry: CollectorRegistry) -> MarketMetrics:
    return MarketMetrics(
        reading=Gauge("screener_market_reading", "1 in the process that seals minutes", registry=registry),
        sealed_minute=Gauge(
            "screener_market_sealed_minute_seconds",
            "Open time of the newest sealed minute",
            registry=registry,
        ),
        sealed_symbols=Gauge(
            "screener_market_sealed_symbols", "Symbols in the newest sealed minute", registry=registry
        ),
        missing_symbols=Counter(
            "screener_market_missing_symbols_total",
            "Symbols of the minute before that a minute was sealed without",
            registry=registry,
        ),
        late_rows=Counter(
            "screener_market_late_rows_total", "Closed rows that came after the seal", registry=registry
        ),
        takeovers=Counter(
            "screener_market_takeovers_total", "Times this process began to seal", registry=registry
        ),
        partitions_not_awaited=Counter(
            "screener_market_not_awaited_total",
            "Times minutes were sealed without a silent partition",
            registry=registry,
        ),
    )
