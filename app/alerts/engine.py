"""From a frame of metrics to published alerts: evaluation, cooldown, [alerts], Redis, in this order.

A crash between two of them can repeat an alert, with the same id; it never loses one. The next frame does not wait
for Redis, which gets one frame's fires at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

import structlog

from app.alerts.cooldowns import Cooldowns
from app.clock import Clock
from app.market.metrics import MetricsBatch
from app.rules.alert_builder import about_ms, build_alerts
from app.rules.cooldown import Fire, decide
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.matches import Matches
from app.rules.evaluation.rulebook import RuleBook, RuleFault
from app.telemetry import AlertMetrics

Publish = Callable[[list[tuple[str, bytes]]], Awaitable[None]]
"""Sends (key, alert) records, in order, to the only partition of [alerts]; returns when Kafka has them all."""


class RulesInForce(Protocol):
    """`app.alerts.rule_watch.RuleWatch` in a process."""

    @property
    def book(self) -> RuleBook:
        """Return the book to evaluate a frame with; a new one after a change of the rules."""

    def switch_off(self, faults: Sequence[RuleFault]) -> None:
        """Leave these rules out of the next `book`."""


class AlertEngine:
    """Evaluates rules and publishes the alerts that fire. backfilled_after_ms: an alert that is older than this when
    it is published is marked as backfilled; 0 marks no alert."""

    def __init__(
        self,
        role: str,
        rules: RulesInForce,
        cooldowns: Cooldowns,
        publish: Publish,
        backfilled_after_ms: int,
        clock: Clock,
        metrics: AlertMetrics,
    ) -> None:
        self._log = structlog.get_logger(role)
        self.rules = rules
        self._cooldowns = cooldowns
        self._publish = publish
        self._backfilled_after_ms = backfilled_after_ms
        self._clock = clock
        self._metrics = metrics
        self.recording: asyncio.Task[None] | None = None
        """Writes the fires of the last frame that had any to Redis."""

    def evaluate(self, evaluator: Evaluator, batch: MetricsBatch) -> Matches:
        """Return the true conditions; rules that raise are switched off."""
        began_s = time.perf_counter()
        matches = evaluator.evaluate(batch)
        if evaluator.faults:
            self.rules.switch_off(evaluator.faults)
        self._metrics.evaluation_duration.observe(time.perf_counter() - began_s)
        self._metrics.evaluated.inc(len(batch))
        return matches

    async def publish(self, matches: Matches, batch: MetricsBatch, book: RuleBook) -> None:
        """Publish the alerts of the matches that fire. `book`: the evaluated one."""
        if not len(matches):
            return
        known = await self._cooldowns.last_fired(matches.keys(batch))
        decided = decide(matches, batch, book, known)
        self._metrics.duplicated.inc(len(matches) - len(decided.fires))
        await self._emit(decided.fires, batch)
        self._cooldowns.remember(decided.last_fired)
        await self.settled()
        self.recording = asyncio.create_task(self._cooldowns.write(decided.last_fired))

    async def settled(self) -> None:
        """Wait until the writing of fires to Redis has ended."""
        recording, self.recording = self.recording, None
        if recording is not None:
            await recording

    def forget(self) -> None:
        """Drop the cooldowns that Redis has too: another worker may have fired meanwhile."""
        self._cooldowns.forget()

    def forget_symbols(self, symbols: Collection[str]) -> None:
        """Drop the cooldowns of departed symbols that Redis has too."""
        self._cooldowns.forget_symbols(symbols)

    async def _emit(self, fires: list[Fire], batch: MetricsBatch) -> None:
        if not fires:
            return
        alerts = build_alerts(fires, batch, evaluate_ts_ms=self._clock.now_ms())
        publish_ts_ms = self._clock.now_ms()
        late_before_ms = publish_ts_ms - self._backfilled_after_ms if self._backfilled_after_ms else 0
        await self._publish(
            [
                (alert.symbol, alert.published(publish_ts_ms, backfilled=about_ms(fire) < late_before_ms))
                for fire, alert in zip(fires, alerts, strict=True)
            ]
        )
        for rule_type, count in Counter(fire.rule.rule_type for fire in fires).items():
            self._metrics.triggered.labels(rule_type=rule_type).inc(count)
        self._note_latencies(fires, batch)
        named = [f"{alert.id} {alert.symbol} {alert.rule_type}" for alert in alerts]
        self._log.info("alerts_published", alerts=named)

    def _note_latencies(self, fires: list[Fire], batch: MetricsBatch) -> None:
        now_ms = self._clock.now_ms()
        for fire in fires:
            latency_ms = now_ms - int(batch.ingest_ts_ms[fire.row])
            self._metrics.alert_latency.observe(max(0, latency_ms) / 1000)
