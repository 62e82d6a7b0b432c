"""Metrics of the process: event loop, readiness, dependencies, disk, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.telemetry.registry import once_per_registry

_LAG_BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0)


@dataclass(frozen=True, slots=True)
class RuntimeMetrics:
    loop_lag: Histogram
    """Delay with which the event loop woke a waiting task."""
    ready: Gauge
    """1 while the process is ready (assigned, recovered, connected), else 0."""
    dependency_up: Gauge
    """{dependency}: 1 if the server answered the last check, else 0."""
    disk_free_bytes: Gauge
    """Free bytes of the file system with the data directory."""
    disk_size_bytes: Gauge
    memory_limit_bytes: Gauge
    """Memory at which the process is killed."""
    task_failures: Counter
    """{task}: background tasks that failed and were restarted."""
    build_info: Gauge
    """{version}: always 1."""


@once_per_registry
def runtime_metrics(registry: CollectorRegistry) -> RuntimeMetrics:
    return RuntimeMetrics(
        loop_lag=Histogram(
            "screener_event_loop_lag_seconds",
            "Delay with which the event loop woke a waiting task",
            buckets=_LAG_BUCKETS_S,
            registry=registry,
        ),
        ready=Gauge("screener_ready", "1 while the process is ready", registry=registry),
        dependency_up=Gauge(
            "screener_dependency_up", "1 while the server answers", ["dependency"], registry=registry
        ),
        disk_free_bytes=Gauge(
            "screener_disk_free_bytes", "Free bytes on the disk of the data directory", registry=registry
        ),
        disk_size_bytes=Gauge(
            "screener_disk_size_bytes", "Size of the disk of the data directory", registry=registry
        ),
        memory_limit_bytes=Gauge(
            "screener_memory_limit_bytes",
            "Memory that the process may take: the limit of its container, else that of the machine",
            registry=registry,
        ),
        task_failures=Counter(
            "screener_task_failures_total",
            "Background tasks that failed and were restarted",
            ["task"],
            registry=registry,
        ),
        build_info=Gauge("screener_build_info", "Always 1", ["version"], registry=registry),
    )
