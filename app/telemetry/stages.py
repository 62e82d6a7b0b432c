"""The three agents: collector, calculator, alerts."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.telemetry.registry import COMPUTE_BUCKETS_S, LATENCY_BUCKETS_S, once_per_registry


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
    """Closed candles of minutes not known before: what completeness of ingest is measured by."""
    late: Counter
    """Those of them older than the newest of their symbol: gaps that are filled, and history."""
    filled: Counter
    """Those of them that had been counted as missing before."""


@once_per_registry
def collector_metrics(registry: CollectorRegistry) -> CollectorMetrics:
    return CollectorMetrics(
        candles_received=Counter(
            "data_collector_candles_received_total", "Candles the collector read", registry=registry
        ),
        candles_published=Counter(
            "data_collector_candles_published_total", "Candles the collector passed on", registry=registry
        ),
        gaps=Counter("screener_gaps_total", "Minutes missing between closed candles", registry=registry),
        corrections=Counter(
            "screener_corrections_total", "Closed candles replaced by different ones", registry=registry
        ),
        duplicates=Counter(
            "screener_duplicates_total", "Closed candles that changed nothing", registry=registry
        ),
        closed_minutes=Counter(
            "data_collector_closed_minutes_total",
            "Closed candles of minutes not known before",
            registry=registry,
        ),
        late=Counter(
            "data_collector_late_minutes_total",
            "Closed candles of new minutes before the newest of their symbol: fills and history",
            registry=registry,
        ),
        filled=Counter(
            "data_collector_filled_minutes_total",
            "Minutes found missing that came later",
            registry=registry,
        ),
    )


@dataclass(frozen=True, slots=True)
class CalculatorMetrics:
    candles_processed: Counter
    metrics_calculated: Counter
    calculation_duration: Histogram
    """Per frame."""
    ring_minutes: Gauge
    """{shard}: minutes of history that the rings have room for."""
    symbols: Gauge
    """{shard}: symbols held."""
    memory_bytes: Gauge
    """{shard}: bytes of all rolling state, room for further symbols included."""


@once_per_registry
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
            "metrics_calculator_ring_buffer_size",
            "Minutes of history that the rings have room for",
            ["shard"],
            registry=registry,
        ),
        symbols=Gauge("metrics_calculator_symbols", "Symbols held", ["shard"], registry=registry),
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
    """Rows the rules were evaluated on."""
    triggered: Counter
    """{rule_type}: alerts published."""
    duplicated: Counter
    """Alerts held back: inside the cooldown, or of a minute that already had one."""
    evaluation_duration: Histogram
    """All rules on one frame."""
    cooldown_fallbacks: Counter
    """Cooldowns decided from the worker's own memory because Redis did not answer."""
    cooldown_degraded: Gauge
    """1 while Redis does not answer and cooldowns come from the worker's own memory, else 0."""
    alert_latency: Histogram
    """Each alert: from the time its candle was first seen (ingest_ts_ms) to Kafka having the alert."""
    rules: Gauge
    """Enabled rules in force."""
    rules_refused: Gauge
    """Rules in the database that do not compile; the last good form of each stays in force."""
    rules_degraded: Gauge
    """1 while the database does not answer and the last known rules go on, else 0."""
    rule_changes: Counter
    """{operation}: added, changed, removed or refused while running."""


@once_per_registry
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
        cooldown_fallbacks=Counter(
            "screener_cooldown_fallbacks_total", "Cooldowns decided without Redis", registry=registry
        ),
        cooldown_degraded=Gauge(
            "screener_cooldown_degraded", "1 while cooldowns are decided without Redis", registry=registry
        ),
        alert_latency=Histogram(
            "alert_engine_alert_latency_seconds",
            "From first sight of the candle to Kafka having its alert",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        ),
        rules=Gauge("alert_engine_rules", "Enabled rules in force", registry=registry),
        rules_refused=Gauge(
            "alert_engine_rules_refused", "Stored rules that do not compile", registry=registry
        ),
        rules_degraded=Gauge(
            "alert_engine_rules_degraded",
            "1 while the last known rules go on without the database",
            registry=registry,
        ),
        rule_changes=Counter(
            "alert_engine_rule_changes_total", "Rules changed while running", ["operation"], registry=registry
        ),
    )
