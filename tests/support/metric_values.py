"""Registries for parts under test, and the values of metrics."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

UNREAD: Final = CollectorRegistry()
"""For metrics that a test does not look at."""


def value_of(metric: MetricWrapperBase) -> float:
    """The value of a counter or gauge; of one with labels, after `labels(...)`."""
    [family] = metric.collect()
    return family.samples[0].value
