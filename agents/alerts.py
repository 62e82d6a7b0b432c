"""The alert agent: every rule on every row, at most one alert per symbol, rule and minute.

[metrics] frames of metrics -> [alerts] one JSON record per alert. Tables `rules`, `rule_minutes`, `rule_bars`: the
rules' memory (`app/alerts/rule_memory.py`).

Order of effects: check the cooldown, publish and wait for Kafka, then record. A crash can repeat
an alert, with the same id; it never loses one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial

from agents.stage import Stage
from app.alerts.cooldowns import Cooldowns
from app.alerts.engine import AlertEngine, Publish, RulesInForce
from app.alerts.rule_memory import History, Restored, RuleMemory
from app.candles.departures import Departures
from app.process.faust_worker.stage_edges import StageEdges
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.kept_minutes import unpack
from app.rules.evaluation.rulebook import RuleBook
from app.rules.files import fingerprint
from app.telemetry import alert_metrics
from app.wire.barrier import StageFacts
from app.wire.frames import decode_metrics
from tables.minutes import MinuteTable
from tables.shards import ShardTable


class Alerts(Stage):
    name = "alerts"

    def __init__(
        self,
        table: ShardTable,
        minutes: MinuteTable,
        bars: ShardTable,
        history: History,
        rules: RulesInForce,
        cooldowns: Cooldowns,
        publish: Publish,
        backfilled_after_ms: int,
        edges: StageEdges,
    ) -> None:
        super().__init__(minutes, edges)
        self._table = table
        self._engine = AlertEngine(
            self.name,
            rules,
            cooldowns,
            publish,
            backfilled_after_ms,
            edges.clock,
            alert_metrics(edges.registry),
        )
        self._cooldowns = cooldowns
        self._bars = bars
        self._memory = RuleMemory(minutes, bars, history)
        self._departures: dict[int, Departures] = {}
        self._book: RuleBook | None = None
        """The active rules at the last frame."""

    async def handle(self, partition: int, data: bytes) -> None:
        batch, info = decode_metrics(data)
        self.follow(info)
        if not len(batch):
            return
        book = self._engine.rules.book
        if book is not self._book:
            self._book = book
            self._cooldowns.forget_other_rules({rule.rule_type for rule in book.rules})
        evaluator = await self._memory.evaluator(partition, book, batch)
        newest_ms = int(batch.open_time_ms.max())
        if partition not in self._departures:
            self._departures[partition] = Departures()
            self._departures[partition].note(evaluator.symbols, newest_ms)
        if gone := self._departures[partition].note(batch.symbols, newest_ms):
            evaluator.forget(gone)
            self._cooldowns.forget_symbols(frozenset(gone))
        matches = self._engine.evaluate(evaluator, batch)
        await self._engine.publish(matches, batch, evaluator.book)
        if batch.closed.any():
            self._table.write(partition, evaluator.snapshot())
        self._memory.keep(partition, batch)
        self.count(partition, batch.ingest_ts_ms, len(batch))

    async def settle(self) -> None:
        await self._engine.settled()

    @property
    def left_behind(self) -> asyncio.Task[None] | None:
        return self._engine.recording

    def facts(self, partition: int) -> StageFacts:
        book = self._memory.in_force(partition, self._engine.rules.book)
        return {"rules": fingerprint(book.rules)}

    def forget(self, partition: int) -> None:
        self._memory.forget(partition)
        self._departures.pop(partition, None)
        self._cooldowns.forget()

    def restore(self, partitions: Collection[int]) -> None:
        self._minutes.rearm_expiry()
        restored = {shard: Restored() for shard in partitions}
        for shard, packed in self._table.items():
            if shard in partitions:
                self.take_back("rules", shard, packed, partial(self._restore_memory, restored[shard]))
        for shard, packed in self._bars.items():
            if shard in partitions:
                self.take_back("rule_bars", shard, packed, partial(self._restore_bars, restored[shard]))
        for shard, open_time_ms, packed in self._minutes.items():
            if shard in partitions:
                use = partial(_restore_minute, restored[shard], open_time_ms)
                self.take_back("rule_minutes", shard, packed, use)
        for shard, found in restored.items():
            self._memory.restore(shard, found)

    def _restore_memory(self, restored: Restored, packed: bytes) -> None:
        Evaluator(self._engine.rules.book).restore(packed)
        restored.memory = packed

    def _restore_bars(self, restored: Restored, packed: bytes) -> None:
        Evaluator(self._engine.rules.book).restore_bars(packed)
        restored.bars = packed


def _restore_minute(restored: Restored, open_time_ms: int, packed: bytes) -> None:
    restored.minutes[open_time_ms] = unpack(packed)
