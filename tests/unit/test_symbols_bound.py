"""Symbols are bounded where they enter: a flood of made-up names costs nobody else, and one dead letter a frame."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from prometheus_client import CollectorRegistry

from agents.collector import Collector
from app.candles.batch import MINUTE_MS
from app.clock import ManualClock
from app.process.faust_worker.stage_edges import StageEdges
from app.process.quarantine import Attempts
from app.telemetry import pipeline_metrics
from app.wire.dead_letters import DeadLetters
from app.wire.frames import decode_candles, encode_candles
from app.wire.topics import shard_of, symbols_of_a_shard
from tests.support.candle_batches import Candle, batch_of, rows_of

REGISTRY = CollectorRegistry()
METRICS = pipeline_metrics(REGISTRY)

MINUTE = 28_000_000


class Table:
    def write(self, shard: int, open_time_ms: int, packed: bytes) -> None: ...


class Outside:
    def __init__(self, symbols_per_shard: int) -> None:
        self.delivered: list[Candle] = []
        self.letters: list[dict[str, Any]] = []
        clock = ManualClock((MINUTE + 60) * MINUTE_MS)
        self.collector = Collector(
            Table(), self._report_gaps, symbols_per_shard,
            StageEdges(
                self._deliver, DeadLetters("collector", self._send_letter, clock, METRICS),
                cast(Any, None), Attempts(Path(os.devnull), "x", METRICS), clock, REGISTRY,
            ),
        )  # fmt: skip

    async def take(self, *candles: Candle) -> None:
        await self.collector.handle(0, encode_candles(batch_of(candles)))

    async def _report_gaps(self, gaps: object) -> None: ...

    async def _deliver(self, partition: int, data: bytes) -> None:
        self.delivered += rows_of(decode_candles(data)[0])

    async def _send_letter(self, record: bytes) -> None:
        self.letters.append(orjson.loads(record))


async def test_candles_of_symbols_beyond_the_bound_are_refused_in_one_dead_letter_with_a_reason():
    outside = Outside(3)
    await outside.take(Candle("OLDUSDT", MINUTE), Candle("ALSOUSDT", MINUTE))
    await outside.take(*(Candle(f"MADEUP{n}", MINUTE + 1) for n in range(500)), Candle("OLDUSDT", MINUTE + 1))
    symbols = {candle.symbol for candle in outside.delivered}
    assert {"OLDUSDT", "ALSOUSDT"} < symbols
    assert len(symbols) == 3
    assert [(candle.symbol, candle.minute) for candle in outside.delivered][-1] == ("OLDUSDT", MINUTE + 1)
    [letter] = outside.letters
    assert (letter["reason"], letter["reasons"]) == ("too_many_symbols", {"too_many_symbols": 499})
    assert "SCREENER_SYMBOLS_MAX" in letter["message"]
    assert letter["original_bytes"] < 5_000
    assert REGISTRY.get_sample_value("data_collector_symbols", {"shard": "0"}) == 3


async def test_names_that_no_row_uses_or_that_are_refused_take_no_room():
    outside = Outside(2)
    await outside.take(*(Candle(f"BAD{n}", MINUTE, price=-1.0) for n in range(50)))
    await outside.take(Candle("AUSDT", MINUTE), Candle("BUSDT", MINUTE))
    assert {candle.symbol for candle in outside.delivered} == {"AUSDT", "BUSDT"}
    assert [letter["reasons"] for letter in outside.letters] == [{"price_not_positive": 50}]


@pytest.mark.parametrize("partitions", [1, 2, 12, 64])
def test_no_shard_is_full_while_all_together_are_within_the_bound(partitions: int):
    total = 3_000
    shards = [0] * partitions
    for n in range(total):
        shards[shard_of(f"{n}USDT", partitions)] += 1
    bound = symbols_of_a_shard(total, partitions)
    assert max(shards) <= bound <= total
    assert bound * partitions <= total * (1 + 4 * (partitions / total) ** 0.5) + partitions
