"""Metrics of the role that delivers webhooks."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.telemetry.registry import LATENCY_BUCKETS_S, once_per_registry


@dataclass(frozen=True, slots=True)
class WebhookMetrics:
    sent: Counter
    """Requests that the receiver answered with 2xx."""
    failed: Counter
    """{reason}: failed attempts, by the outcomes of `app.webhooks.delivery.post`; each is retried by the
    schedule."""
    paced: Counter
    """Attempts that the receiver asked to make later (429 or 503 with Retry-After); they are no failures."""
    stale: Counter
    """Alerts not sent because they were too old when they were published."""
    dead: Counter
    """Messages that became dead: after the last attempt, or because the receiver answered 410."""
    disabled: Counter
    """Targets disabled: by 410, or because no message got through in a whole round of retries."""
    delivery: Histogram
    """From the publication of an alert to its delivery."""
    attempt: Histogram
    """One request."""
    outbox: Gauge
    """{state}: messages `pending`, and `dead` deliveries that are kept for redelivery."""
    oldest_due: Gauge
    """How long the oldest message is due, of targets that accept messages now."""
    targets: Gauge
    """{state}: `enabled`, and `disabled` by us."""


@once_per_registry
def webhook_metrics(registry: CollectorRegistry) -> WebhookMetrics:
    return WebhookMetrics(
        sent=Counter("alert_engine_webhooks_sent_total", "Webhooks delivered", registry=registry),
        failed=Counter(
            "alert_engine_webhooks_failed_total",
            "Webhook attempts that failed",
            ["reason"],
            registry=registry,
        ),
        paced=Counter(
            "screener_webhooks_paced_total",
            "Attempts postponed at the request of the receiver",
            registry=registry,
        ),
        stale=Counter(
            "screener_webhook_alerts_stale_total",
            "Alerts not sent because they were too old when published",
            registry=registry,
        ),
        dead=Counter("screener_webhooks_dead_total", "Webhooks that became dead", registry=registry),
        disabled=Counter(
            "screener_webhook_targets_disabled_total",
            "Targets disabled because they answered 410 or no message got through",
            registry=registry,
        ),
        delivery=Histogram(
            "screener_webhook_delivery_seconds",
            "From the publication of an alert to its delivery",
            buckets=(*LATENCY_BUCKETS_S, 300.0, 3_600.0, 86_400.0),
            registry=registry,
        ),
        attempt=Histogram(
            "screener_webhook_attempt_seconds", "One request", buckets=LATENCY_BUCKETS_S, registry=registry
        ),
        outbox=Gauge("screener_webhook_outbox_messages", "Messages kept", ["state"], registry=registry),
        oldest_due=Gauge(
            "screener_webhook_oldest_due_seconds",
            "How long the oldest message that may be sent is due",
            registry=registry,
        ),
        targets=Gauge("screener_webhook_targets", "Targets", ["state"], registry=registry),
    )
