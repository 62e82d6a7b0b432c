"""Creation of metrics: once per registry, with buckets shared by all roles."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, Counter

LATENCY_BUCKETS_S: Final = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0,
)  # fmt: skip
"""For the time from one stage to another, and for requests."""
COMPUTE_BUCKETS_S: Final = (
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0,
)  # fmt: skip
"""For the work on one frame."""
INSERT_BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
RECOVERY_BUCKETS_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
"""For recovering the tables after an assignment; a startup probe should allow for the last one."""

Metrics = TypeVar("Metrics")


def once_per_registry(make: Callable[[CollectorRegistry], Metrics]) -> Callable[[CollectorRegistry], Metrics]:
    """Wrap `make` to return the same metrics for the same registry, since a name can be registered only once."""
    return cache(make)


def from_zero(counter: Counter, *values: str) -> Counter:
    """Return the counter with a series at 0 for each value of its only label: Prometheus sees an increase only of a
    series that it knew before."""
    for value in values:
        counter.labels(value)
    return counter
