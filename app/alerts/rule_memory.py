"""The memory of rules by shard: kept in tables, rebuilt after a start, and warmed from history for new rules.

Tables: `rules`, the memory of the minute before, with each closed minute; `rule_minutes`, what functions over time read
in each closed minute; `rule_bars`, the memory of bars, once an hour. From these the memory is rebuilt exactly.

A rule whose functions need minutes that were not kept is first warmed up from the stored candles, in the background:
until then its previous version, if any, stays in force. The rows that arrive meanwhile are kept for it; when they are
too many, the next frame waits. At a start no version is in force yet, so the first frame waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import structlog

from app.backtest.explain_at import settling_minutes
from app.candles.batch import MINUTE_MS, CandleBatch
from app.market.matrix import MarketMatrix
from app.market.metrics import MetricsBatch
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.kept_minutes import kept_names, merged, minutes_of, pack, together, unpack
from app.rules.evaluation.past import is_of_bars, time_slots
from app.rules.evaluation.rulebook import RuleBook
from app.rules.language.walks import uses_time
from app.rules.rule import Rule

_HISTORY_MINUTES: Final = 2880
_BARS_EVERY_MS: Final = 60 * MINUTE_MS
_CANDLES_TOGETHER: Final = 20_000
MOST_WAITING_ROWS: Final = 500_000
"""Most closed rows of one shard that may wait; a row takes 8 bytes for each metric that the rules name."""
_TRIES: Final = 5
_TRY_AGAIN_S: Final = 2.0

History = Callable[[int, int, int], Awaitable[CandleBatch | None]]
"""Closed candles of a shard from the database: [since_ms, until_ms) by open time. None if the database is down."""

log = structlog.get_logger("rules")


class Minutes(Protocol):
    """`tables.minutes.MinuteTable`."""

    def write(self, shard: int, open_time_ms: int, packed: bytes) -> None: ...

    def read(self, shard: int, open_time_ms: int) -> bytes | None: ...


class Bars(Protocol):
    """`tables.shards.ShardTable`."""

    def write(self, shard: int, packed: bytes) -> None: ...


@dataclass(slots=True)
class Restored:
    """The memory of a shard as read from the tables. minutes: by open time."""

    memory: bytes | None = None
    bars: bytes | None = None
    minutes: dict[int, MetricsBatch] = field(default_factory=dict)


class _Warming:
    """Rules that are being warmed up. evaluator: of the whole book. waiting: the rows that arrived meanwhile."""

    def __init__(self, book: RuleBook, rules: Collection[Rule]) -> None:
        self.evaluator = Evaluator(book)
        self.rules = rules
        self.waiting: list[MetricsBatch] = []
        self.waiting_rows = 0
        self.task: asyncio.Task[None] | None = None
        self._columns = tuple(dict.fromkeys(book.columns.values()))

    @property
    def done(self) -> bool:
        return self.task is not None and self.task.done()

    def note(self, batch: MetricsBatch) -> None:
        closed = _closed_rows(batch, self._columns)
        self.waiting.append(closed)
        self.waiting_rows += len(closed)

    async def wait(self, shard: int) -> None:
        """Wait until the history is read. The stream stands still meanwhile, so that no row is lost."""
        if self.task is None or self.task.done():
            return
        began_s = time.perf_counter()
        await asyncio.wait((self.task,))
        log.warning(
            "rules_awaited",
            shard=shard,
            rules=sorted(rule.rule_type for rule in self.rules)[:20],
            rows=self.waiting_rows,
            seconds=round(time.perf_counter() - began_s, 3),
        )

    async def run(self, history: History, shard: int, until_ms: int) -> None:
        began_s = time.perf_counter()
        for tried in range(1, _TRIES + 1):
            candles = await history(shard, until_ms - _minutes_of(self.rules) * MINUTE_MS, until_ms)
            # the newest minutes may not be stored yet
            if (
                candles is None
                or tried == _TRIES
                or candles.open_time_ms.max(initial=0) >= until_ms - MINUTE_MS
            ):
                break
            await asyncio.sleep(_TRY_AGAIN_S)
        if candles is not None:
            await asyncio.to_thread(_learn, self.evaluator, candles)
        _tell(shard, self.rules, candles, until_ms, time.perf_counter() - began_s)


@dataclass(slots=True)
class _Shard:
    evaluator: Evaluator
    wanted: RuleBook
    warming: _Warming | None = None
    bars_ms: int = 0

    def stop(self) -> None:
        if self.warming is not None and self.warming.task is not None:
            self.warming.task.cancel()
        self.warming = None


class RuleMemory:
    """One evaluator by shard."""

    def __init__(
        self, minutes: Minutes, bars: Bars, history: History, most_waiting_rows: int = MOST_WAITING_ROWS
    ) -> None:
        self._minutes = minutes
        self._bars = bars
        self._history = history
        self._most_waiting_rows = most_waiting_rows
        self._shards: dict[int, _Shard] = {}
        self._restored: dict[int, Restored] = {}

    async def evaluator(self, shard: int, book: RuleBook, batch: MetricsBatch) -> Evaluator:
        """Return the evaluator for the next frame: of the book, but with the previous versions of rules that are
        being warmed up."""
        held = self._shards.get(shard)
        if held is None:
            held = _Shard(await self._first(shard, book, int(batch.open_time_ms.min())), book)
            self._shards[shard] = held
        elif held.wanted is not book:
            self._change(shard, held, book, int(batch.open_time_ms.max()))
        elif held.warming is not None:
            if held.warming.waiting_rows > self._most_waiting_rows:
                await held.warming.wait(shard)
            if held.warming.done:
                self._put_in_force(held, held.warming)
        return held.evaluator

    def in_force(self, shard: int, book: RuleBook) -> RuleBook:
        """Return the book that is evaluated now: `book`, or while rules are being warmed up the one with their
        previous versions."""
        held = self._shards.get(shard)
        return held.evaluator.book if held is not None and held.warming is not None else book

    async def _first(self, shard: int, book: RuleBook, before_ms: int) -> Evaluator:
        """Return an evaluator with the memory of the tables; what they lack comes from the stored candles."""
        restored, began_s = self._restored.pop(shard, Restored()), time.perf_counter()
        evaluator = Evaluator(book)
        without_bars = [] if restored.bars is None else Evaluator(book).restore_bars(restored.bars)
        rules = [rule for rule in book.rules if rule in without_bars or _lacks(rule, restored)]
        if rules:
            candles = await self._history(shard, before_ms - _minutes_of(rules) * MINUTE_MS, before_ms)
            if candles is not None:
                await asyncio.to_thread(_learn, evaluator, candles)
            _tell(shard, rules, candles, before_ms, time.perf_counter() - began_s)
        if restored.bars is not None:
            evaluator.restore_bars(restored.bars)
        minutes = [restored.minutes[at] for at in sorted(restored.minutes)]
        for joined in together(minutes):
            evaluator.replay(joined)
        if restored.memory is not None:
            evaluator.restore(restored.memory)
        return evaluator

    def _change(self, shard: int, held: _Shard, book: RuleBook, newest_ms: int) -> None:
        held.stop()
        held.wanted, held.bars_ms = book, 0
        waiting = held.evaluator.lacking(book)
        if not waiting:
            held.evaluator.swap(book)
            return
        before = {rule.rule_type: rule for rule in held.evaluator.book.rules}
        names = {rule.rule_type for rule in waiting}
        meanwhile = [before.get(rule.rule_type) if rule.rule_type in names else rule for rule in book.rules]
        held.evaluator.swap(RuleBook.compile([rule for rule in meanwhile if rule], book.default_mode))
        held.warming = warming = _Warming(book, waiting)
        warming.task = asyncio.create_task(warming.run(self._history, shard, newest_ms))

    def _put_in_force(self, held: _Shard, warming: _Warming) -> None:
        if warming.task is not None:
            # raises the error that ended the task
            warming.task.result()
        for batch in warming.waiting:
            warming.evaluator.replay(batch)
        held.evaluator.swap(held.wanted, warming.evaluator)
        held.warming = None

    def keep(self, shard: int, batch: MetricsBatch) -> None:
        """Write the minutes and bars from which the memory is rebuilt, after a batch was evaluated."""
        held = self._shards[shard]
        if held.warming is not None:
            held.warming.note(batch)
        evaluator = held.evaluator
        if not evaluator.book.kept or not batch.closed.any():
            return
        for minute in minutes_of(evaluator.kept(batch)):
            open_time_ms = int(minute.open_time_ms[0])
            before = self._minutes.read(shard, open_time_ms)
            whole = minute if before is None else merged(unpack(before), minute)
            self._minutes.write(shard, open_time_ms, pack(whole))
        newest_ms = int(batch.open_time_ms.max())
        if newest_ms - held.bars_ms >= _BARS_EVERY_MS and any(
            map(is_of_bars, time_slots(evaluator.book.slots))
        ):
            self._bars.write(shard, evaluator.bars_snapshot())
            held.bars_ms = newest_ms

    def restore(self, shard: int, restored: Restored) -> None:
        """Rebuild the shard's memory from this at its first frame."""
        self._restored[shard] = restored

    def forget(self, shard: int) -> None:
        held = self._shards.pop(shard, None)
        if held is not None:
            held.stop()
        self._restored.pop(shard, None)


def _lacks(rule: Rule, restored: Restored) -> bool:
    """Return whether the tables do not hold as many minutes of the rule's metrics as it looks back."""
    condition = rule.condition()
    names = set(kept_names([condition]))
    if not uses_time(condition) or not names:
        return False
    if not restored.minutes:
        return True
    since_ms = max(restored.minutes) - _minutes_of([rule]) * MINUTE_MS
    return min(restored.minutes) > since_ms or any(
        not names.issubset(minute.columns) for at, minute in restored.minutes.items() if at >= since_ms
    )


def _minutes_of(rules: Iterable[Rule]) -> int:
    return min(_HISTORY_MINUTES, max(settling_minutes(rule.condition()) for rule in rules))


def _learn(evaluator: Evaluator, candles: CandleBatch) -> None:
    columns = tuple(dict.fromkeys(evaluator.book.columns.values()))
    matrix = MarketMatrix(columns=columns)
    for part in _parts(candles):
        evaluator.replay(matrix.update(part))


def _parts(candles: CandleBatch) -> Iterator[CandleBatch]:
    for start in range(0, len(candles), _CANDLES_TOGETHER):
        yield candles.take(slice(start, start + _CANDLES_TOGETHER))


def _closed_rows(batch: MetricsBatch, columns: tuple[str, ...]) -> MetricsBatch:
    closed = batch.take(np.flatnonzero(batch.closed))
    position = {name: at for at, name in enumerate(closed.columns)}
    known = tuple(name for name in columns if name in position)
    return closed.with_values(closed.values[:, [position[name] for name in known]], known)


def _tell(
    shard: int, rules: Collection[Rule], candles: CandleBatch | None, until_ms: int, took_s: float
) -> None:
    """until_ms: the history was asked for up to here."""
    times = None if candles is None or not len(candles) else candles.open_time_ms
    log.info(
        "rules_warmed_up",
        shard=shard,
        rules=sorted(rule.rule_type for rule in rules)[:20],
        candles=0 if times is None else len(times),
        missing_minutes=None if times is None else (until_ms - int(times.max())) // MINUTE_MS - 1,
        seconds=round(took_s, 3),
    )
