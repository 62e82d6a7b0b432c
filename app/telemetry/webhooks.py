"""Webhooks, as the role that delivers them counts them."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.telemetry.registry import LATENCY_BUCKETS_S, once_per_registry


@dataclass(frozen=True, slots=True)
class WebhookMetrics:
    sent: Counter
    """Requests that the receiver answered with 2xx."""
    failed: Counter
    """{reason}: attempts that were not, by the outcomes of `app.webhooks.post`; each is tried again by the schedule."""
    stale: Counter
    """Alerts not sent because they were about a time long ago when they were published."""
    dead: Counter
    """Messages given up: after the last attempt, or because the receiver answered 410."""
    disabled: Counter
    """Targets switched off: by 410, or because nothing got through in a whole round of retries."""
    delivery: Histogram
    """From the publication of an alert to its delivery."""
    attempt: Histogram
    """One request."""
    outbox: Gauge
    """{state}: messages `pending`, and `dead` deliveries that are kept for redelivery."""
    oldest_due: Gauge
    """How long the message that waits longest is due, of targets that may be sent to now."""
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
        stale=Counter(
            "screener_webhook_alerts_stale_total",
            "Alerts too old to be sent when published",
            registry=registry,
        ),
        dead=Counter("screener_webhooks_dead_total", "Webhooks given up", registry=registry),
        disabled=Counter(
            "screener_webhook_targets_disabled_total",
            "Targets switched off because they answered 410 or nothing got through",
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
            "How long the oldest message is due that may be sent",
            registry=registry,
        ),
        targets=Gauge("screener_webhook_targets", "Targets", ["state"], registry=registry),
    )
