"""Metrics of the collector."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge

from app.telemetry.registry import once_per_registry


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
