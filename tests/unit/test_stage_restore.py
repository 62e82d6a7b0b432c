"""What the stages make of stored state after a start, usable or not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from agents.alerts import Alerts
from agents.calculator import Calculator
from agents.collector import Collector
from app.candles.batch import MINUTE_MS
from app.candles.known_minutes import KnownMinutes
from app.clock import ManualClock
from app.market.matrix import MarketMatrix
from app.market.rings.packing import encode
from app.process.faust_worker.stage_edges import StageEdges
from app.process.quarantine import Attempts
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule
from app.telemetry import pipeline_metrics
from app.wire.dead_letters import DeadLetters
from tests.support.market_batches import batch_of
from tests.support.market_model import random_minute
from tests.support.metric_batches import metrics_batch
from tests.support.metric_values import value_of

REGISTRY = CollectorRegistry()
METRICS = pipeline_metrics(REGISTRY)

START = 28_000_000
SYMBOLS = ("AUSDT", "BUSDT")


class StoredValues:
    """What a table gives back after a start: an item for each value."""

    def __init__(self, *items: tuple[Any, ...]) -> None:
        self._items = items

    def items(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._items)

    def rearm_expiry(self) -> None: ...


def edges() -> StageEdges:
    clock = ManualClock(0)
    nothing: Any = None
    return StageEdges(
        nothing,
        DeadLetters("x", nothing, clock, METRICS),
        nothing,
        Attempts(Path(os.devnull), "x", METRICS),
        clock,
        REGISTRY,
    )


def unusable(stage: str) -> float:
    return value_of(METRICS.snapshots_unusable.labels(stage=stage))


def market(minutes: int = 30) -> MarketMatrix:
    random = np.random.default_rng(1)
    rows = [(symbol, START + n, random_minute(random), True) for n in range(minutes) for symbol in SYMBOLS]
    matrix = MarketMatrix()
    matrix.update(batch_of(rows))
    return matrix


def packed_minutes(matrix: MarketMatrix, shard: int, minutes: int = 30) -> list[tuple[int, int, bytes]]:
    times_ms = [(START + n) * MINUTE_MS for n in range(minutes)]
    return [(shard, time_ms, matrix.pack_minute(time_ms)) for time_ms in times_ms]


def calculator(indicators: StoredValues, minutes: StoredValues) -> Calculator:
    async def no_history(*_: Any) -> None: ...

    return Calculator(minutes, indicators, no_history, no_history, edges())


def refused_indicators() -> dict[str, bytes]:
    good = market().indicator_snapshot()
    return {
        "newer": good.replace(b'"version":1', b'"version":9', 1),
        "of another horizon": MarketMatrix(late_horizon_minutes=120).indicator_snapshot(),
        "cut off": good[: len(good) // 2],
        "empty": b"",
        "without arrays": encode("indicators", 1, {"symbols": SYMBOLS, "quote_rows": 1}, {}),
    }


@pytest.mark.parametrize("fault", refused_indicators())
def test_the_calculator_starts_from_its_minutes_when_the_indicators_cannot_be_used(fault: str):
    matrix = market()
    minutes = StoredValues(*packed_minutes(matrix, 0), *packed_minutes(matrix, 1))
    stage = calculator(
        StoredValues((0, refused_indicators()[fault]), (1, matrix.indicator_snapshot())), minutes
    )
    before = unusable("calculator")
    with capture_logs() as logs:
        stage.reassign({0, 1})
    assert unusable("calculator") == before + 1
    refused = [log for log in logs if log["event"] == "snapshot_unusable"]
    assert [(log["table"], log["shard"]) for log in refused] == [("indicators", 0)]

    from_minutes = calculator(StoredValues(), minutes)
    from_minutes.reassign({0, 1})
    following = batch_of([(SYMBOLS[0], START + 30, random_minute(np.random.default_rng(2)), True)])
    np.testing.assert_array_equal(
        stage._matrix(0).update(following).values, from_minutes._matrix(0).update(following).values
    )
    np.testing.assert_array_equal(stage._matrix(1).update(following).values, matrix.update(following).values)


def test_an_unreadable_minute_is_missing_and_the_others_are_restored():
    minutes = packed_minutes(market(), 0)
    stage = calculator(StoredValues(), StoredValues(*minutes[:-1], (0, minutes[-1][1], b"?")))
    before = unusable("calculator")
    stage.reassign({0})
    assert unusable("calculator") == before + 1
    without = MarketMatrix()
    known = stage._matrix(0)
    for _, time_ms, packed in minutes[:-1]:
        assert known.pack_minute(time_ms) == packed
    assert known.pack_minute(minutes[-1][1]) == without.pack_minute(minutes[-1][1])


@pytest.mark.parametrize("cut_bytes", [1, 8])
def test_the_collector_does_without_an_unreadable_minute(cut_bytes: int):
    known = KnownMinutes()
    known.accept(
        batch_of([("AUSDT", START + n, random_minute(np.random.default_rng(n)), True) for n in (0, 1)])
    )
    packed = [known.pack_minute((START + n) * MINUTE_MS) for n in (0, 1)]
    table = StoredValues(
        (0, START * MINUTE_MS, packed[0]), (0, (START + 1) * MINUTE_MS, packed[1][:-cut_bytes])
    )
    stage = Collector(table, None, 1_000, edges())
    before = unusable("collector")
    stage.reassign({0})
    assert unusable("collector") == before + 1
    assert stage._minutes_of(0).pack_minute(START * MINUTE_MS) == packed[0]


RISING = Rule("rising", "price_change_5m > prev(price_change_5m)", "info")


async def _no_history(*_: Any) -> None: ...


async def snapshot_of(stage: Alerts) -> bytes:
    batch = metrics_batch([("BUSDT", START * MINUTE_MS, {})])
    return (await stage._memory.evaluator(0, stage._engine.rules.book, batch)).snapshot()


def alerts(packed: bytes) -> Alerts:
    book = RuleBook.compile([RISING], "live")
    nothing = StoredValues()
    return Alerts(
        StoredValues((0, packed)),
        nothing,
        nothing,
        _no_history,
        _Rules(book),
        _NoCooldowns(),
        None,
        backfilled_after_ms=0,
        edges=edges(),
    )


@dataclass
class _Rules:
    book: RuleBook

    def switch_off(self, faults) -> None:
        assert not faults


class _NoCooldowns:
    def forget(self) -> None: ...


def memory() -> bytes:
    evaluator = Evaluator(RuleBook.compile([RISING], "live"))
    evaluator.evaluate(metrics_batch([("AUSDT", START * MINUTE_MS, {"price_change_5m": 0.5})]))
    return evaluator.snapshot()


async def test_usable_memory_of_the_rules_is_restored():
    stage = alerts(memory())
    before = unusable("alerts")
    stage.reassign({0})
    assert unusable("alerts") == before
    assert await snapshot_of(stage) == memory()
    assert b"AUSDT" in memory()


def unusable_memories() -> dict[str, bytes]:
    minutes, values = np.zeros((2, 1), np.int64), np.zeros((1, 2, 1))
    times = np.zeros((0, 2, 1), np.int64)
    header = {"symbols": ["AUSDT"], "operands": ["price_change_5m"], "holds": []}
    arrays = {"minutes": minutes, "values": values, "times": times}
    return {
        "of another version": encode("rules", 99, header, arrays),
        "of an older form": b'{"version": 1}',
        "empty": b"",
        "cut off": memory()[:-1],
        "of another kind": market().indicator_snapshot(),
        "without arrays": encode("rules", 2, header, {}),
        "of other symbols": encode("rules", 2, header | {"symbols": []}, arrays),
        "of other operands": encode("rules", 2, header | {"operands": []}, arrays),
        "without symbols": encode("rules", 2, {}, arrays),
    }


@pytest.mark.parametrize("fault", unusable_memories())
async def test_the_rules_begin_without_memory_when_it_cannot_be_used(fault: str):
    stage = alerts(unusable_memories()[fault])
    before = unusable("alerts")
    stage.reassign({0})
    assert unusable("alerts") == before + 1
    assert b"AUSDT" not in await snapshot_of(stage)
