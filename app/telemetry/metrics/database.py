"""Metrics of PostgreSQL, by the roles that use it."""

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
    unreadable: Counter
    """{table}: invalid rows that readers leave out."""
    pool_size: Gauge
    """{state}: `open` connections, connections `in_use`, the `max`, and requests `waiting` for one."""

    def asked(self, operation: str) -> None:
        """Count a query, whose errors are counted from 0."""
        self.queries.labels(operation).inc()
        self.errors.labels(operation)


@dataclass(frozen=True, slots=True)
class RetentionMetrics:
    overdue_s: Gauge
    """{table}: by how much the oldest row, or chunk of TimescaleDB, has outlived the retention."""
    failing_jobs: Gauge
    """Failing jobs of TimescaleDB on our tables."""


@once_per_registry
def database_metrics(registry: CollectorRegistry) -> DatabaseMetrics:
    return DatabaseMetrics(
        queries=Counter("database_queries_total", "Queries run", ["operation"], registry=registry),
        errors=Counter("database_errors_total", "Queries that failed", ["operation"], registry=registry),
        unreadable=Counter(
            "screener_database_rows_unreadable_total",
            "Invalid rows that were left out",
            ["table"],
            registry=registry,
        ),
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


@once_per_registry
def retention_metrics(registry: CollectorRegistry) -> RetentionMetrics:
    return RetentionMetrics(
        overdue_s=Gauge(
            "screener_database_overdue_seconds",
            "By how much the oldest row, or chunk of TimescaleDB, has outlived the retention",
            ["table"],
            registry=registry,
        ),
        failing_jobs=Gauge(
            "screener_database_failing_jobs",
            "Jobs of TimescaleDB on our tables that failed the last time, never ran, or are overdue",
            registry=registry,
        ),
    )
