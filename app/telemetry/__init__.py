"""Every Prometheus metric, by the role that fills it. Dashboards and alert rules rely on the names.

Each `*_metrics` function gives the metrics of one group on a registry, the same objects whenever it is called
for that registry again. The registry is the role's, except for the metrics of the process. Durations are seconds;
counters end in `_total`. `catalogue` says which roles serve which group, and on which port; `deploy/METRICS.md` is
written from it.

A new metric: a field and its maker in the module of its group (`metrics/`). A new group: a module there, a line here,
a line in `catalogue.GROUPS`. Then `python -m app.telemetry.metrics_document > deploy/METRICS.md`; tests check that all
agree.
"""

from app.telemetry.metrics.alerts import AlertMetrics, alert_metrics
from app.telemetry.metrics.calculator import CalculatorMetrics, calculator_metrics
from app.telemetry.metrics.collector import CollectorMetrics, collector_metrics
from app.telemetry.metrics.database import (
    DatabaseMetrics,
    RetentionMetrics,
    database_metrics,
    retention_metrics,
)
from app.telemetry.metrics.feed import FeedMetrics, NatsMetrics, feed_metrics, nats_metrics
from app.telemetry.metrics.market import MarketMetrics, market_metrics
from app.telemetry.metrics.runtime import RuntimeMetrics, runtime_metrics
from app.telemetry.metrics.sidecar import SidecarMetrics, sidecar_metrics
from app.telemetry.metrics.stages import PipelineMetrics, pipeline_metrics
from app.telemetry.metrics.webhooks import WebhookMetrics, webhook_metrics

__all__ = [
    "AlertMetrics",
    "CalculatorMetrics",
    "CollectorMetrics",
    "DatabaseMetrics",
    "FeedMetrics",
    "MarketMetrics",
    "NatsMetrics",
    "PipelineMetrics",
    "RetentionMetrics",
    "RuntimeMetrics",
    "SidecarMetrics",
    "WebhookMetrics",
    "alert_metrics",
    "calculator_metrics",
    "collector_metrics",
    "database_metrics",
    "feed_metrics",
    "market_metrics",
    "nats_metrics",
    "pipeline_metrics",
    "retention_metrics",
    "runtime_metrics",
    "sidecar_metrics",
    "webhook_metrics",
]
