"""How metrics are made: once per registry, in the buckets that all roles share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final, Protocol, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry

LATENCY_BUCKETS_S: Final = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0,
)  # fmt: skip
"""From one stage to another, and requests."""
COMPUTE_BUCKETS_S: Final = (
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0,
)  # fmt: skip
"""Work on one frame."""
INSERT_BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
RECOVERY_BUCKETS_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
"""Recovering the tables after an assignment; the last is what a startup probe should allow for."""

Metrics = TypeVar("Metrics", covariant=True)


class OfRegistry(Protocol[Metrics]):
    """Gives the metrics of a role on a registry: those of the process unless another is named."""

    def __call__(self, registry: CollectorRegistry = REGISTRY) -> Metrics: ...


def once_per_registry(make: Callable[[CollectorRegistry], Metrics]) -> OfRegistry[Metrics]:
    """The same metrics whenever they are asked for of the same registry: a name can be registered only once."""
    made = cache(make)

    def metrics(registry: CollectorRegistry = REGISTRY) -> Metrics:
        # a cache around this function would take a call without the default registry for another than one with it
        return made(registry)

    return metrics
