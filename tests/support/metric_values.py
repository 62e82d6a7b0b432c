"""A registry for parts under test, and the values of Prometheus metrics."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

UNREAD: Final = CollectorRegistry()
"""A registry for metrics that a test does not read."""


def value_of(metric: MetricWrapperBase) -> float:
    """Return the value of a counter or gauge; one with labels must have its `labels(...)`."""
    [family] = metric.collect()
    return family.samples[0].value
