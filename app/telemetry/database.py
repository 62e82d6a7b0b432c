"""PostgreSQL, as the roles that use it see it."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.telemetry.registry import INSERT_BUCKETS_S, once_per_registry


@dataclass(frozen=True, slots=True)
class DatabaseMetrics:
    queries: Counter
    """{operation}"""
    errors: Counter
    """{operation}"""
    insert_duration: Histogram
    """{table}: one batch."""
    pool_size: Gauge
    """{state}: connections that are `open`, of them `in_use`, the `max`, and requests `waiting` for one."""


@once_per_registry
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
