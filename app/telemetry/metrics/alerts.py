"""Metrics of the alert agent."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.telemetry.registry import COMPUTE_BUCKETS_S, LATENCY_BUCKETS_S, from_zero, once_per_registry


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
