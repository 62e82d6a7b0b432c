"""Rules of the whole market that look back: after a start, and when they are new, they know what a process knows that
never stopped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from structlog.testing import capture_logs

from app.backtest.market_rules import MarketRules
from app.candles.batch import CandleBatch
from app.market.matrix import MarketMatrix
from app.market.metrics import MetricsBatch
from app.market_wide.kept import Kept
from app.market_wide.minutes import Minutes
from app.market_wide.past import StoredPast
from app.process.quarantine import ENDS, Attempts
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule
from app.telemetry import pipeline_metrics
from app.wire.market_minutes import Position
from tests.support.candle_batches import Candle, batch_of
from tests.support.metric_values import UNREAD
from tests.support.webhooks import NOTED_NOWHERE

SYMBOLS = ("AUSDT", "BTCUSDT", "CUSDT", "DUSDT")
START = 27_000_000
MINUTES = 330
TAKEN_OVER = 300
KEPT = 8
RULES = [
    Rule("breadth", "share(price > ago(price, 1m)) > 0.7 and ago(share(price > ago(price, 1m)), 90m) < 0.5", "low"),
    Rule("leader", "average(rank(price_change_15m), 2h) < 2.45 and lowest(pct_rank(price), 90m) >= 0", "low"),
    Rule("apart", "corr(BTCUSDT, 2h) > 0.02 and beta(BTCUSDT, 4h) < 0.4", "low"),
    Rule("plain", "rank(price_change_1m) == 1", "low"),
]  # fmt: skip
BOOK = RuleBook.compile(RULES, "close")
PLAIN = RuleBook.compile(RULES[-1:], "close")


@cache
def candles() -> CandleBatch:
    rng = np.random.default_rng(11)
    prices = 100 * np.exp(rng.normal(0, 0.001, (MINUTES, len(SYMBOLS))).cumsum(axis=0))
    rows = [
        Candle(symbol, START + at, float(prices[at, place]))
        for at in range(MINUTES)
        for place, symbol in enumerate(SYMBOLS)
        # one minute of one symbol is unknown
        if (at, symbol) != (200, "CUSDT")
    ]
    return batch_of(rows)


@cache
def sealed() -> list[MetricsBatch]:
    matrix = MarketMatrix(columns=tuple(dict.fromkeys((*BOOK.columns.values(), "close_1m"))))
    return [rows for rows, _ in MarketRules(BOOK).take(matrix.update(candles()))]


class Database:
    """Two shards of stored minutes."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.is_down = False

    async def history(self, shard: int, since_ms: int, until_ms: int) -> CandleBatch | None:
        self.asked.append((since_ms, until_ms))
        whole = candles()
        there = (whole.open_time_ms >= since_ms) & (whole.open_time_ms < until_ms)
        return None if self.is_down else whole.take(np.flatnonzero(there & (whole.symbol_index % 2 == shard)))


class Engine:
    """Evaluates as `AlertEngine`; notes what is true, and publishes nothing."""

    def __init__(self, book: RuleBook) -> None:
        self.rules = SimpleNamespace(book=book)
        self.found: dict[int, list[tuple[str, str]]] = {}

    def forget(self) -> None: ...

    def evaluate(self, evaluator: Evaluator, rows: MetricsBatch) -> None:
        self.found[int(rows.open_time_ms[0])] = matches_of(evaluator, rows)

    async def publish(self, *_: object) -> None: ...

    async def settled(self) -> None: ...


def matches_of(evaluator: Evaluator, rows: MetricsBatch) -> list[tuple[str, str]]:
    found = evaluator.evaluate(rows)
    pairs = zip(found.row.tolist(), found.rule.tolist(), strict=True)
    return [(rows.symbol_of(row), found.rules[rule].rule_type) for row, rule in pairs]


def role(engine: Engine, database: Database, attempts: Attempts = NOTED_NOWHERE) -> Minutes:
    async def write(_: object) -> int:
        return 0

    gauge = SimpleNamespace(set=lambda _: None)
    metrics = SimpleNamespace(sealed_minute=gauge, sealed_symbols=gauge)
    return Minutes(engine, write, StoredPast(database.history, 2), metrics, attempts)  # type: ignore[arg-type]  # reason: stand-ins


async def run_from(minutes: Minutes, rows: list[MetricsBatch]) -> None:
    for one in rows:
        await minutes.take([one], {}, {})


@cache
def steady() -> dict[int, list[tuple[str, str]]]:
    evaluator = Evaluator(BOOK)
    return {int(rows.open_time_ms[0]): matches_of(evaluator, rows) for rows in sealed()}


def kept_at(evaluator: Evaluator, minutes: list[MetricsBatch]) -> Kept:
    """As [market] ends: a memory, the minutes behind it, all of them done."""
    last = minutes[-1]
    position = Position(int(last.open_time_ms[0]), {}, {}, 0)
    return Kept(position, evaluator.snapshot(), last, minutes)


async def test_after_a_takeover_they_look_back_as_far_as_before():
    rows, expected = sealed(), steady()
    before = Evaluator(BOOK)
    for one in rows[: TAKEN_OVER - KEPT]:
        before.evaluate(one)
    engine, database = Engine(BOOK), Database()
    minutes = role(engine, database)
    with capture_logs() as logs:
        await minutes.take_over(kept_at(before, rows[TAKEN_OVER - KEPT : TAKEN_OVER]))
        await run_from(minutes, rows[TAKEN_OVER:])
    assert engine.found == {at: expected[at] for at in sorted(expected)[TAKEN_OVER:]}
    names = {name for found in engine.found.values() for _, name in found}
    assert names == {rule.rule_type for rule in RULES}
    (told,) = (log for log in logs if log["event"] == "rules_warmed_up")
    # the memory has the returns for corr and beta
    assert told["rules"] == ["breadth", "leader"]
    assert told["missing_minutes"] == 0
    first_ms = int(rows[TAKEN_OVER - KEPT].open_time_ms[0])
    assert max(until for _, until in database.asked) == first_ms
    assert first_ms - min(since for since, _ in database.asked) < 600 * 60_000


async def test_a_new_rule_sees_the_stored_minutes_first_and_the_others_go_on():
    rows, expected = sealed(), steady()
    engine, database = Engine(PLAIN), Database()
    minutes = role(engine, database)
    await minutes.take_over(Kept())
    await run_from(minutes, rows[250:TAKEN_OVER])
    assert not database.asked
    engine.rules.book = BOOK
    await run_from(minutes, rows[TAKEN_OVER:])
    for at in sorted(expected)[TAKEN_OVER:]:
        assert engine.found[at] == expected[at], at


@pytest.mark.parametrize("memory", [None, b"damaged"])
async def test_without_a_database_or_with_a_damaged_memory_they_begin_with_what_they_have(memory):
    rows, expected = sealed(), steady()
    engine, database = Engine(BOOK), Database()
    database.is_down = True
    minutes = role(engine, database)
    await minutes.take_over(Kept(memory=memory))
    await run_from(minutes, rows[TAKEN_OVER:])
    plain = {
        at: [pair for pair in expected[at] if pair[1] == "plain"] for at in sorted(expected)[TAKEN_OVER:]
    }
    assert engine.found == plain


class FailingEngine(Engine):
    """Raises at one minute."""

    def __init__(self, at_ms: int) -> None:
        super().__init__(PLAIN)
        self._at_ms = at_ms

    def evaluate(self, evaluator: Evaluator, rows: MetricsBatch) -> None:
        if int(rows.open_time_ms[0]) == self._at_ms:
            raise ZeroDivisionError("of this minute")
        super().evaluate(evaluator, rows)


async def test_a_sealed_minute_at_which_the_role_ended_three_times_costs_its_own_alerts_only(tmp_path: Path):
    rows = sealed()[:3]
    failing = int(rows[1].open_time_ms[0])
    for _ in range(ENDS):
        attempts = Attempts(tmp_path, "market", pipeline_metrics(UNREAD))
        attempts.open()
        minutes = role(FailingEngine(failing), Database(), attempts)
        with pytest.raises(ZeroDivisionError):
            await minutes.take_over(Kept(None, None, rows[-1], rows))
        attempts.close()
    attempts = Attempts(tmp_path, "market", pipeline_metrics(UNREAD))
    attempts.open()
    engine = FailingEngine(failing)
    await role(engine, Database(), attempts).take_over(Kept(None, None, rows[-1], rows))
    attempts.close()
    assert engine.found.keys() == {int(one.open_time_ms[0]) for one in (rows[0], rows[2])}
