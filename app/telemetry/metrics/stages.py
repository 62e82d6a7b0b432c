"""Metrics that every stage has."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.telemetry.registry import LATENCY_BUCKETS_S, RECOVERY_BUCKETS_S, once_per_registry


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
