"""The alert agent: every rule on every row, at most one alert per symbol, rule and minute.

[metrics] frames of metrics -> [alerts] one JSON record per alert. Table `rules`: what rules remember of the
minute before. Order of effects: look the cooldown up, publish and wait for Kafka, then record. A crash can repeat
an alert, with the same id; it never loses one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any

import orjson

from agents.stage import Stage
from app.cooldown import Cooldowns
from app.frames import decode_metrics
from app.market.metrics import MetricsBatch
from app.rules.alert import build_alerts
from app.rules.cooldown import Fire, decide
from app.rules.files import fingerprint
from app.rules.rulebook import Evaluator, RuleBook
from app.telemetry import alert_metrics
from tables.shards import ShardTable

RulesInForce = Callable[[], RuleBook]
"""The book to evaluate a frame with; another one once the rules have changed."""
Publish = Callable[[list[tuple[str, bytes]]], Awaitable[None]]
"""Sends (key, alert) records, in order, to the only partition of [alerts]; returns when Kafka has them all."""


class Alerts(Stage):
    name = "alerts"

    def __init__(
        self, table: ShardTable, rules: RulesInForce, cooldowns: Cooldowns, publish: Publish, **edges: Any
    ) -> None:
        super().__init__(**edges)
        self._table = table
        self._rules = rules
        self._cooldowns = cooldowns
        self._publish = publish
        self._evaluators: dict[int, Evaluator] = {}

    async def handle(self, partition: int, data: bytes) -> None:
        batch, info = decode_metrics(data)
        self.follow(info)
        evaluator = self._evaluator(partition)
        began = time.perf_counter()
        matches = evaluator.evaluate(batch)
        alert_metrics().evaluation_duration.observe(time.perf_counter() - began)
        alert_metrics().evaluated.inc(len(batch))
        if len(matches):
            known = await self._cooldowns.last_fired(matches.keys(batch))
            decided = decide(matches, batch, evaluator.book, known)
            alert_metrics().duplicated.inc(len(matches) - len(decided.fires))
            await self._emit(decided.fires, batch)
            await self._cooldowns.record(decided.last_fired)
        if batch.closed.any():
            self._table.write(partition, evaluator.snapshot())
        self.count(partition, batch.ingest_ts_ms, len(batch))

    async def _emit(self, fires: list[Fire], batch: MetricsBatch) -> None:
        if not fires:
            return
        alerts = build_alerts(fires, batch, evaluate_ts_ms=self.clock.now_ms())
        publish_ts_ms = self.clock.now_ms()
        for alert in alerts:
            alert["timings"]["publish_ts_ms"] = publish_ts_ms
        await self._publish([(alert["symbol"], orjson.dumps(alert)) for alert in alerts])
        for rule_type, count in Counter(fire.rule.rule_type for fire in fires).items():
            alert_metrics().triggered.labels(rule_type=rule_type).inc(count)
        self._note_latencies(fires, batch)
        published = [f"{alert['id']} {alert['symbol']} {alert['rule_type']}" for alert in alerts]
        self.log.info("alerts_published", alerts=published)

    def _note_latencies(self, fires: list[Fire], batch: MetricsBatch) -> None:
        now_ms = self.clock.now_ms()
        for fire in fires:
            latency_ms = now_ms - int(batch.ingest_ts_ms[fire.row])
            alert_metrics().alert_latency.observe(max(0, latency_ms) / 1000)

    def _evaluator(self, partition: int) -> Evaluator:
        """The partition's evaluator with the rules now in force: they change between frames, never within one."""
        book = self._rules()
        evaluator = self._evaluators.get(partition)
        if evaluator is None:
            evaluator = self._evaluators[partition] = Evaluator(book)
        elif evaluator.book is not book:
            evaluator.swap(book)
        return evaluator

    def facts(self, partition: int) -> Mapping[str, Any]:
        return {"rules": fingerprint(self._rules().rules)}

    def forget(self, partition: int) -> None:
        self._evaluators.pop(partition, None)
        self._cooldowns.forget()

    def restore(self, partitions: Collection[int]) -> None:
        for shard, packed in self._table.items():
            if shard in partitions:
                self.take_back("rules", shard, partial(self._restore_memory, shard, packed))

    def _restore_memory(self, shard: int, packed: bytes) -> None:
        evaluator = Evaluator(self._rules())
        evaluator.restore(packed)
        self._evaluators[shard] = evaluator
