"""Metrics of the calculator."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.telemetry.registry import COMPUTE_BUCKETS_S, once_per_registry


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
