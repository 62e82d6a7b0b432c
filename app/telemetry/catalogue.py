"""Which role serves which metrics, and the page of one role.

One process may be several roles: `all` is collector, calculator and alerts, each with a port of its own. The page
on a role's port has that role's metrics only, so that a sum over all targets counts nothing twice. What belongs
to the process (memory, CPU, event loop, readiness) is on each of its ports: aggregate that with max, not sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from app.telemetry.database import database_metrics
from app.telemetry.exchange import feed_metrics, nats_metrics
from app.telemetry.gateway import gateway_metrics
from app.telemetry.pipeline import pipeline_metrics
from app.telemetry.registry import OfRegistry
from app.telemetry.runtime import runtime_metrics
from app.telemetry.stages import alert_metrics, calculator_metrics, collector_metrics
from app.telemetry.webhooks import webhook_metrics

ROLE_PORTS: Final = {
    "collector": 9090,
    "calculator": 9091,
    "alerts": 9092,
    "sidecar": 9093,
    "bridge": 9094,
    "sinks": 9095,
    "feed": 9096,
    "webhooks": 9097,
}
"""Role -> default port of its Prometheus page. The sidecar's is on its port 8080 too."""
STAGE_LABELS: Final = {
    "bridge": ("bridge",),
    "collector": ("collector",),
    "calculator": ("calculator",),
    "alerts": ("alerts",),
    "sinks": ("sinks-candles", "sinks-metrics", "sinks-alerts"),
    "sidecar": ("sidecar",),
    "webhooks": ("webhooks",),
    "feed": ("feed",),
}
"""Role -> values of the label `stage` that it counts under."""


@dataclass(frozen=True, slots=True)
class Group:
    """Metrics made by one function, and the roles that serve them."""

    title: str
    metrics_of: OfRegistry[Any]
    roles: tuple[str, ...]

    def families(self, registry: CollectorRegistry) -> dict[str, MetricWrapperBase]:
        """Name of the field -> metric, made if it was not there yet."""
        made = self.metrics_of(registry)
        return {field.name: getattr(made, field.name) for field in fields(made)}


GROUPS: Final = (
    Group("The process", runtime_metrics, tuple(ROLE_PORTS)),
    Group("Every stage", pipeline_metrics, tuple(STAGE_LABELS)),
    Group("Exchange", feed_metrics, ("feed",)),
    Group("NATS", nats_metrics, ("feed", "bridge")),
    Group("Collector", collector_metrics, ("collector",)),
    Group("Calculator", calculator_metrics, ("calculator",)),
    Group("Alerts", alert_metrics, ("alerts",)),
    Group("Webhooks", webhook_metrics, ("webhooks",)),
    Group("Database", database_metrics, ("calculator", "alerts", "sinks", "sidecar", "webhooks", "feed")),
    Group("Sidecar", gateway_metrics, ("sidecar",)),
)


def groups_of(role: str) -> tuple[Group, ...]:
    return tuple(group for group in GROUPS if role in group.roles)


class RolePage:
    """What `prometheus_client.generate_latest` writes for one role.

    Makes the role's metrics at once, so that every name is there from the first scrape.
    """

    def __init__(self, registry: CollectorRegistry, role: str) -> None:
        self._registry = registry
        self._role = role
        self._begin_at_zero()
        own = {family._name for group in groups_of(role) for family in group.families(registry).values()}
        scratch = CollectorRegistry()
        ours = {family._name for group in GROUPS for family in group.families(scratch).values()}
        self._others = ours - own

    def _begin_at_zero(self) -> None:
        """A ratio to the rows of a stage needs them to be there before the first one."""
        metrics = pipeline_metrics(self._registry)
        for stage in STAGE_LABELS.get(self._role, ()):
            metrics.frames.labels(stage)
            metrics.rows.labels(stage)

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            if family.name not in self._others:
                yield self._of_role(family)

    def _of_role(self, family: Metric) -> Metric:
        """`family` without the samples that another stage of this process counted."""
        if not any("stage" in sample.labels for sample in family.samples):
            return family
        mine = Metric(family.name, family.documentation, family.type, family.unit)
        mine.samples = [sample for sample in family.samples if self._is_mine(sample.labels.get("stage"))]
        return mine

    def _is_mine(self, stage: str | None) -> bool:
        return not any(stage in labels for role, labels in STAGE_LABELS.items() if role != self._role)


def all_names(groups: Iterable[Group] = GROUPS) -> set[str]:
    """The names by which rules and dashboards may ask for the metrics of `groups`: `_total` of counters, and
    `_bucket`, `_sum`, `_count` of histograms."""
    scratch = CollectorRegistry()
    names: set[str] = set()
    for group in groups:
        for family in group.families(scratch).values():
            names |= {f"{family._name}{suffix}" for suffix in _SUFFIXES[str(family._type)]}
    return names


_SUFFIXES: Final = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
