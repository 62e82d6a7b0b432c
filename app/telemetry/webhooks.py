"""Webhooks, as the role that delivers them counts them."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter

from app.telemetry.registry import once_per_registry


@dataclass(frozen=True, slots=True)
class WebhookMetrics:
    sent: Counter
    """Deliveries that the receiver answered with 2xx."""
    failed: Counter
    """Attempts that were not: each is tried again until its deadline."""


@once_per_registry
def webhook_metrics(registry: CollectorRegistry) -> WebhookMetrics:
    return WebhookMetrics(
        sent=Counter("alert_engine_webhooks_sent_total", "Webhooks delivered", registry=registry),
        failed=Counter(
            "alert_engine_webhooks_failed_total", "Webhook attempts that failed", registry=registry
        ),
    )
