"""Metrics and log events of attempts that are over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args
from uuid import UUID

import structlog

from app.telemetry import WebhookMetrics
from app.telemetry.registry import from_zero
from app.webhooks.delivery.outbox import Settled
from app.webhooks.delivery.post import Outcome

log = structlog.get_logger("webhooks")


class AttemptReports:
    """Counts and logs outcomes."""

    def __init__(self, metrics: WebhookMetrics) -> None:
        self._metrics = metrics
        from_zero(metrics.failed, *(reason for reason in get_args(Outcome) if reason != "delivered"))

    def disabled(self, targets: Sequence[UUID]) -> None:
        for target_id in targets:
            self._metrics.disabled.inc()
            log.error("webhook_target_disabled", target=str(target_id))

    def ended(self, settled: Sequence[Settled]) -> None:
        paced: set[UUID] = set()
        for one in settled:
            self._metrics.attempt.observe(one.answer.duration_ms / 1000)
            if one.answer.delivered:
                self._metrics.sent.inc()
                for published_ms in one.claimed.message.published_ms:
                    self._metrics.delivery.observe(max(0, one.at_ms - published_ms) / 1000)
                continue
            if one.verdict.paced is not None:
                self._metrics.paced.inc()
                # once, not for every message of a round
                if one.claimed.target_id not in paced:
                    paced.add(one.claimed.target_id)
                    log.info("webhook_paced", target=str(one.claimed.target_id), rounds=one.verdict.paced)
                continue
            self._metrics.failed.labels(reason=one.answer.outcome).inc()
            tell = log.warning
            if one.verdict.status == "dead":
                self._metrics.dead.inc()
                tell = log.error
            tell(
                "webhook_dead" if one.verdict.status == "dead" else "webhook_failed",
                message=one.claimed.message.id,
                target=str(one.claimed.target_id),
                attempt=one.claimed.attempts + 1,
                reason=one.answer.outcome,
                status=one.answer.status,
            )
