"""A sealed minute, from the seal to its alerts.

Order of effects: write the sealed minutes to [market], publish their alerts, write the position behind them. After a
crash in between the next process evaluates the minutes of [market] that have no position behind them: the same rows,
the same alerts, the same ids. A minute at which the process ended three times is not evaluated. Earlier minutes that
rules look back at are read from the database (`past.py`), at a start and for a new rule.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog

from app.alerts.engine import AlertEngine
from app.candles.batch import MINUTE_MS
from app.candles.departures import Departures
from app.errors import BadFrame
from app.market.metrics import MetricsBatch
from app.market_wide.kept import Kept
from app.market_wide.past import StoredPast
from app.process.attempt_records import Record as NotedRecord
from app.process.quarantine import Attempts, is_outage
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.language.walks import uses_time
from app.telemetry import MarketMetrics
from app.wire.market_minutes import POSITION_KEY, Position, Record, memory_records, minute_records

_MEMORY_EVERY_MS: Final = 30 * MINUTE_MS
"""Market time between two memories; a start reads the minutes since the last."""

Write = Callable[[Sequence[Record]], Awaitable[int]]
"""Sends records to the only partition of [market], in order; returns the offset of the first once Kafka has all."""

log = structlog.get_logger("market")


class Minutes:
    """The rules of all symbols, minute by minute."""

    def __init__(
        self, engine: AlertEngine, write: Write, past: StoredPast, metrics: MarketMetrics, attempts: Attempts
    ) -> None:
        self._engine = engine
        self._attempts = attempts
        self._write = write
        self._past = past
        self._metrics = metrics
        self._evaluator: Evaluator | None = None
        self._memory: bytes | None = None
        """The rules' memory before the next minute; None once the evaluator has it."""
        self._kept_from: int | None = None
        self._memory_ms = 0
        self._departures: Departures | None = None

    async def take_over(self, kept: Kept) -> None:
        """Continue where [market] ends; publish the alerts that its last minutes may lack."""
        self._engine.forget()
        self._evaluator, self._memory, self._departures = None, kept.memory, None
        self._kept_from = None if kept.position is None else kept.position.kept_from
        sealed_ms = -1 if kept.position is None else kept.position.sealed_ms
        for rows in kept.minutes:
            minute_ms = int(rows.open_time_ms[0])
            await self._evaluate(rows, is_done=minute_ms <= sealed_ms)
        self._memory_ms = int(kept.minutes[0].open_time_ms[0]) if kept.minutes else 0

    async def _ready(self, minute_ms: int) -> Evaluator:
        """Return the evaluator of the active rules, each of which has seen the minutes before this one that it looks
        back at. Rules change only between minutes."""
        book, held = self._engine.rules.book, self._evaluator
        if held is not None and held.book is book:
            return held
        held = held or Evaluator(RuleBook.compile((), "close"))
        lacking, memory = held.lacking(book), self._memory
        if memory is not None:
            knows = Evaluator(book)
            if _restore(knows, memory):
                lacking = [
                    rule for rule in lacking if uses_time(rule.condition()) or knows.lacks_returns(rule)
                ]
            else:
                memory = None
        held.swap(book, await self._past.seen(book, lacking, minute_ms) if lacking else None)
        if memory is not None:
            held.restore(memory)
        self._evaluator, self._memory = held, None
        return held

    async def take(
        self, minutes: Sequence[MetricsBatch], resume: Mapping[int, int], read: Mapping[int, int]
    ) -> None:
        """Take minutes that were just sealed, in order of time; resume, read: as of `Position` behind them."""
        minutes_at = await self._write([record for rows in minutes for record in minute_records(rows)])
        for rows in minutes:
            await self._evaluate(rows)
        sealed_ms = int(minutes[-1].open_time_ms[0])
        position = Position(sealed_ms, resume, read, self._kept_from)
        await self._write([(POSITION_KEY, position.encode())])
        if self._evaluator is not None and sealed_ms >= self._memory_ms + _MEMORY_EVERY_MS:
            await self._write(memory_records(self._evaluator.snapshot()))
            self._kept_from, self._memory_ms = minutes_at, sealed_ms

    async def _evaluate(self, rows: MetricsBatch, is_done: bool = False) -> None:
        """is_done: the alerts of the minute are published; rules only look at it."""
        minute_ms = int(rows.open_time_ms[0])
        noted = NotedRecord("sealed minutes", minute_ms, minute_ms)
        if verdict := self._attempts.verdict(noted):
            self._attempts.set_aside(noted, verdict)
            return
        try:
            await self._attempts.watched(self._evaluate_once(rows, is_done), noted)
        except Exception as error:
            if not is_outage(error):
                self._attempts.failed(error, noted)
            raise
        self._attempts.done(noted)

    async def _evaluate_once(self, rows: MetricsBatch, is_done: bool) -> None:
        evaluator = await self._ready(int(rows.open_time_ms[0]))
        self._forget_departed(evaluator, rows)
        if is_done:
            evaluator.evaluate(rows)
            return
        matches = self._engine.evaluate(evaluator, rows)
        await self._engine.publish(matches, rows, evaluator.book)
        await self._engine.settled()
        self._metrics.sealed_minute.set(int(rows.open_time_ms[0]) / 1000)
        self._metrics.sealed_symbols.set(len(rows))

    def _forget_departed(self, evaluator: Evaluator, rows: MetricsBatch) -> None:
        minute_ms = int(rows.open_time_ms[0])
        if self._departures is None:
            self._departures = Departures()
            self._departures.note(evaluator.symbols, minute_ms)
        if gone := self._departures.note(rows.symbols, minute_ms):
            evaluator.forget(gone)
            self._engine.forget_symbols(frozenset(gone))


def _restore(evaluator: Evaluator, memory: bytes) -> bool:
    """Return whether the memory could be read; discard the evaluator otherwise."""
    try:
        evaluator.restore(memory)
    except BadFrame as error:
        log.error("snapshot_unusable", table="market", shard=0, reason=error.reason, error=str(error))
        return False
    return True
