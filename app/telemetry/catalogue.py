"""The metrics of each role, and the registry of one role.

One process may be several roles: `all` is collector, calculator and alerts, each with its own port. Each role has a
registry of its own, so that a sum over all targets counts nothing twice. Metrics of the process (memory, CPU, event
loop, readiness) are in the registry of the process and on each of its ports: aggregate them with max, not sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from app.telemetry.metrics.alerts import alert_metrics
from app.telemetry.metrics.calculator import calculator_metrics
from app.telemetry.metrics.collector import collector_metrics
from app.telemetry.metrics.database import database_metrics, retention_metrics
from app.telemetry.metrics.feed import feed_metrics, nats_metrics
from app.telemetry.metrics.market import market_metrics
from app.telemetry.metrics.runtime import runtime_metrics
from app.telemetry.metrics.sidecar import sidecar_metrics
from app.telemetry.metrics.stages import pipeline_metrics
from app.telemetry.metrics.webhooks import webhook_metrics

ROLE_PORTS: Final = {
    "collector": 9090,
    "calculator": 9091,
    "alerts": 9092,
    "sidecar": 9093,
    "bridge": 9094,
    "sinks": 9095,
    "feed": 9096,
    "webhooks": 9097,
    "market": 9099,
}
"""Role -> default port of its Prometheus page. The sidecar's is on its port 8080 too."""
STAGE_LABELS: Final = {
    "bridge": ("bridge",),
    "collector": ("collector",),
    "calculator": ("calculator",),
    "alerts": ("alerts",),
    "market": ("market",),
    "sinks": ("sinks-candles", "sinks-metrics", "sinks-alerts"),
    "sidecar": ("sidecar",),
    "webhooks": ("webhooks",),
    "feed": ("feed",),
}
"""Role -> its values of the label `stage`."""


@dataclass(frozen=True, slots=True)
class MetricGroup:
    """Metrics created by one function, and the roles that serve them."""

    title: str
    metrics_of: Callable[[CollectorRegistry], Any]
    roles: tuple[str, ...]

    def families(self, registry: CollectorRegistry) -> dict[str, MetricWrapperBase]:
        """Return name of the field -> metric, created if it does not exist yet."""
        made = self.metrics_of(registry)
        return {field.name: getattr(made, field.name) for field in fields(made)}


PROCESS: Final = MetricGroup("The process", runtime_metrics, tuple(ROLE_PORTS))
GROUPS: Final = (
    PROCESS,
    MetricGroup("Every stage", pipeline_metrics, tuple(STAGE_LABELS)),
    MetricGroup("Exchange", feed_metrics, ("feed",)),
    MetricGroup("NATS", nats_metrics, ("feed", "bridge")),
    MetricGroup("Collector", collector_metrics, ("collector",)),
    MetricGroup("Calculator", calculator_metrics, ("calculator",)),
    MetricGroup("Alerts", alert_metrics, ("alerts", "market")),
    MetricGroup("Market", market_metrics, ("market",)),
    MetricGroup("Webhooks", webhook_metrics, ("webhooks",)),
    MetricGroup(
        "Database",
        database_metrics,
        ("calculator", "alerts", "market", "sinks", "sidecar", "webhooks", "feed"),
    ),
    MetricGroup("Retention", retention_metrics, ("sinks",)),
    MetricGroup("Sidecar", sidecar_metrics, ("sidecar",)),
)


def described(family: MetricWrapperBase) -> Metric:
    """Return name (a counter's without `_total`), type and documentation."""
    return next(iter(family.describe()))


class RoleRegistry(CollectorRegistry):
    """The metrics of one role; its page shows the process's metrics too.

    It creates all metrics of the role at once, so that every name exists from the first scrape.
    """

    def __init__(self, role: str, process: CollectorRegistry = REGISTRY) -> None:
        """process: the registry that all roles of the process share."""
        super().__init__()
        self.process = process
        self.register(process)
        for group in GROUPS:
            if role in group.roles:
                group.metrics_of(process if group is PROCESS else self)
        # ratios and increases need these series before the first row
        for stage in STAGE_LABELS.get(role, ()):
            metrics = pipeline_metrics(self)
            metrics.frames.labels(stage)
            metrics.rows.labels(stage)
            metrics.quarantined.labels(stage)
            metrics.snapshots_unusable.labels(stage)
