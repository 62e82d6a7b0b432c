"""Metrics of the role that seals minutes of all symbols."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge

from app.telemetry.registry import once_per_registry


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
