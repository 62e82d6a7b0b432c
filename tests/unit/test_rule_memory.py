"""The memory of rules over time is rebuilt exactly from what the tables keep, and new rules see their history first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
import pytest
from structlog.testing import capture_logs

from app.alerts.rule_memory import Restored, RuleMemory
from app.candles.batch import MINUTE_MS, CandleBatch
from app.market.matrix import MarketMatrix
from app.market.metrics import MetricsBatch
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.kept_minutes import unpack
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule
from tests.support.candle_batches import Candle, batch_of
from tests.support.eventually import eventually

SYMBOLS = ("AUSDT", "BUSDT")
START = 27_000_000
MINUTES = 400
RULES = [
    Rule("breakout", "price > ago(highest(high, 45m), 1m)", "low"),
    Rule("squeeze", "stdev(price, 20m) < average(stdev(price, 20m), 50m)", "low"),
    Rule("crossed", "within(crosses_above(price, sma(close, 3, 5m)), 15m) and closes(5m)", "low"),
    Rule("trend", "ema(close, 5, 15m) > ema(close, 9, 15m) and highest(rsi(close, 4, 15m), 30m) > 60", "low"),
    Rule("held", "streak(price > prev(price)) >= 2 or since(price > prev(price)) > 4", "low"),
]
BOOK = RuleBook.compile(RULES, "close")


@dataclass
class Tables:
    """What is kept, as a table keeps it."""

    minutes: dict[int, bytes] = field(default_factory=dict)
    bars: bytes | None = None

    def write(self, shard: int, at: int | bytes, packed: bytes = b"") -> None:
        if isinstance(at, bytes):
            self.bars = at
        else:
            self.minutes[at] = packed

    def read(self, shard: int, open_time_ms: int) -> bytes | None:
        return self.minutes.get(open_time_ms)

    def restored(self, memory: bytes) -> Restored:
        return Restored(memory, self.bars, {at: unpack(packed) for at, packed in self.minutes.items()})


def candles() -> list[CandleBatch]:
    """Minute by minute, with a gap that is filled late and a correction."""
    rng = np.random.default_rng(3)
    prices = 100 + rng.normal(0, 1, (MINUTES, 2)).cumsum(axis=0) / 10
    batches = []
    for at, row in enumerate(prices.tolist()):
        now = [Candle(symbol, START + at, price) for symbol, price in zip(SYMBOLS, row, strict=True)]
        if at == 200:
            now.pop()
        batches.append(now)
        if at == 230:
            batches.append([Candle("BUSDT", START + 200, 103.0), Candle("AUSDT", START + 221, 99.0)])
    return [batch_of(sorted(now, key=lambda candle: candle.minute)) for now in batches]


def metrics() -> list[MetricsBatch]:
    columns = tuple(dict.fromkeys((*BOOK.columns.values(), "close_1m")))
    matrix = MarketMatrix(columns=columns)
    return [matrix.update(batch) for batch in candles()]


async def no_history(*_: int) -> None: ...


def matches_of(evaluator: Evaluator, batch: MetricsBatch) -> list[tuple[int, int]]:
    found = evaluator.evaluate(batch)
    return list(zip(found.row.tolist(), found.rule.tolist(), strict=True))


@pytest.mark.parametrize("cut", [90, 203, 232, 300])
async def test_a_restarted_worker_goes_on_as_if_it_had_never_stopped(cut: int) -> None:
    batches, steady, tables = metrics(), Evaluator(BOOK), Tables()
    memory = RuleMemory(tables, tables, no_history)
    found = 0
    for at, batch in enumerate(batches):
        if at == cut:
            packed = (await memory.evaluator(0, BOOK, batch)).snapshot()
            memory = RuleMemory(tables, tables, no_history)
            memory.restore(0, tables.restored(packed))
        if at == cut + 1:
            # a crash before the offset was committed: the frame before comes again
            (await memory.evaluator(0, BOOK, batches[cut])).evaluate(batches[cut])
        expected = matches_of(steady, batch)
        assert matches_of(await memory.evaluator(0, BOOK, batch), batch) == expected, at
        memory.keep(0, batch)
        found += len(expected) * (at > cut)
    assert found


def stored_before(until_ms: int) -> CandleBatch:
    rows = [
        Candle(batch.symbol_of(row), int(batch.open_time_ms[row]) // MINUTE_MS, float(batch.close[row]))
        for batch in candles()
        for row in range(len(batch))
        if batch.open_time_ms[row] < until_ms
    ]
    latest = {(candle.minute, candle.symbol): candle for candle in rows}
    return batch_of([latest[key] for key in sorted(latest)])


async def test_a_new_rule_sees_the_stored_minutes_before_it_is_in_force() -> None:
    batches = metrics()
    asked: list[tuple[int, int]] = []

    async def stored(shard: int, since_ms: int, until_ms: int) -> CandleBatch:
        asked.append((since_ms, until_ms))
        return stored_before(until_ms)

    plain = RuleBook.compile(
        [Rule("breakout", "price > 1", "low"), Rule("other", "price > 2", "low")], "close"
    )
    steady, memory = Evaluator(BOOK), RuleMemory(Tables(), Tables(), stored)
    for batch in batches[:300]:
        steady.evaluate(batch)
        (await memory.evaluator(0, plain, batch)).evaluate(batch)
        memory.keep(0, batch)
    assert not asked
    with capture_logs() as logs:
        evaluator = await memory.evaluator(0, BOOK, batches[300])
        # meanwhile the old form of the edited rule is in force, and neither new rules nor the deleted one
        assert [rule.expression for rule in evaluator.book.rules] == ["price > 1"]
        assert memory.in_force(0, BOOK) is evaluator.book
        expected = matches_of(steady, batches[300])
        evaluator.evaluate(batches[300])
        memory.keep(0, batches[300])
        await eventually(lambda: any(log["event"] == "rules_warmed_up" for log in logs))
    (told,) = (log for log in logs if log["event"] == "rules_warmed_up")
    assert told["rules"] == sorted(rule.rule_type for rule in RULES)
    assert told["candles"] > 0
    assert told["missing_minutes"] == 0
    for batch in batches[301:]:
        expected = matches_of(steady, batch)
        evaluator = await memory.evaluator(0, BOOK, batch)
        assert evaluator.book is BOOK
        assert matches_of(evaluator, batch) == expected
        memory.keep(0, batch)


async def test_rows_that_come_while_a_rule_reads_its_history_all_count_and_the_stream_waits_when_too_many() -> (
    None
):
    batches, may_answer, answered = metrics(), asyncio.Event(), []

    async def slow(shard: int, since_ms: int, until_ms: int) -> CandleBatch:
        await may_answer.wait()
        answered.append(until_ms)
        return stored_before(until_ms)

    steady = Evaluator(BOOK)
    plain = RuleBook.compile([Rule("other", "price > 2", "low")], "close")
    memory = RuleMemory(Tables(), Tables(), slow, most_waiting_rows=20)
    for batch in batches[:250]:
        steady.evaluate(batch)
        (await memory.evaluator(0, plain, batch)).evaluate(batch)
        memory.keep(0, batch)
    with capture_logs() as logs:
        for batch in batches[250:261]:
            steady.evaluate(batch)
            (await memory.evaluator(0, BOOK, batch)).evaluate(batch)
            memory.keep(0, batch)
        assert not answered
        waits = asyncio.create_task(memory.evaluator(0, BOOK, batches[261]))
        await asyncio.sleep(0)
        assert not waits.done()
        may_answer.set()
        evaluator = await waits
    assert [log["rows"] for log in logs if log["event"] == "rules_awaited"] == [22]
    assert evaluator.book is BOOK
    found = 0
    for batch in batches[261:]:
        expected = matches_of(steady, batch)
        assert matches_of(evaluator, batch) == expected
        found += len(expected)
    assert found


async def test_what_only_a_deleted_rule_used_is_freed() -> None:
    batches, memory = metrics(), RuleMemory(Tables(), Tables(), no_history)
    evaluator = await memory.evaluator(0, BOOK, batches[0])
    evaluator.evaluate(batches[0])
    held = evaluator.time_memory_bytes()
    fewer = RuleBook.compile(RULES[:1], "close")
    evaluator = await memory.evaluator(0, fewer, batches[1])
    assert evaluator.book is fewer
    assert 0 < evaluator.time_memory_bytes() < held / 4
    nothing = RuleBook.compile([Rule("plain", "price > prev(price)", "low")], "close")
    assert (await memory.evaluator(0, nothing, batches[2])).time_memory_bytes() == 0


def test_equal_parts_of_rules_are_remembered_once() -> None:
    texts = [f"average(close, 60m) > {at} or price > 2 * average(close_1m, 1h)" for at in range(20)]
    book = RuleBook.compile([Rule(f"r{at}", text, "low") for at, text in enumerate(texts)], "close")
    assert [len(slot.outs) for slot in book.slots] == [1]
