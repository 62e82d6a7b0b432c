"""A test bench for a calculator without Faust: frames in, metrics out, with fakes of its tables and its database."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from agents.calculator import Calculator, History, StoredBars
from app.candles.batch import DTYPES, MINUTE_MS, CandleBatch
from app.clock import ManualClock
from app.market.fields import COLUMN_POSITION
from app.process.faust_worker.stage_edges import StageEdges
from app.process.quarantine import Attempts
from app.telemetry import pipeline_metrics
from app.wire.frames import decode_metrics, encode_candles
from tests.support.metric_values import UNREAD

START_MS = 1_618_617_600_000


def candles(symbol: str, first: int, count: int, *, closed: bool = True) -> CandleBatch:
    """Return `count` candles from minute `first` on, each with a close of 100 + its minute."""
    minutes = np.arange(first, first + count)
    columns: dict[str, Any] = {name: np.zeros(count, dtype=dtype) for name, dtype in DTYPES.items()}
    columns["open_time_ms"] = START_MS + minutes * MINUTE_MS
    for name in ("open", "high", "low", "close"):
        columns[name] = 100.0 + minutes
    columns["quote_volume"] = np.ones(count)
    columns["volume"] = np.ones(count)
    columns["closed"] = np.full(count, closed)
    columns["event_ts_ms"] = columns["open_time_ms"] + MINUTE_MS
    return CandleBatch(symbols=(symbol,), **columns)


class Minutes:
    """A fake table of minutes that records the written minutes."""

    def __init__(self) -> None:
        self.written: list[int] = []

    def write(self, shard: int, open_time_ms: int, packed: bytes) -> None:
        self.written.append(open_time_ms)


class Values:
    """A fake table of one value per shard that counts the writes."""

    def __init__(self) -> None:
        self.writes = 0

    def write(self, shard: int, packed: bytes) -> None:
        self.writes += 1


class Database:
    """A fake database that returns `stored` (None: it does not answer) and records the queries."""

    def __init__(self, stored: CandleBatch | None) -> None:
        self.stored = stored
        self.questions: list[tuple[int, int, int]] = []

    async def __call__(self, shard: int, since_ms: int, until_ms: int) -> CandleBatch | None:
        self.questions.append((shard, since_ms, until_ms))
        if self.stored is None:
            return None
        return self.stored.take(self.stored.open_time_ms < until_ms)


class Bars:
    """A fake source of bars that returns `stored` (None: it does not answer) and records the queries."""

    def __init__(self) -> None:
        self.stored: Mapping[str, CandleBatch] | None = {}
        self.questions: list[tuple[tuple[str, ...], int]] = []

    async def __call__(self, symbols: Sequence[str], until_ms: int) -> Mapping[str, CandleBatch] | None:
        self.questions.append((tuple(symbols), until_ms))
        return self.stored


class CalculatorBench:
    def __init__(self, stored: CandleBatch | None = None) -> None:
        self.database = Database(stored)
        self.bars = Bars()
        self.table = Minutes()
        self.indicators = Values()
        self.sent: list[bytes] = []
        self.clock = ManualClock(START_MS)
        self.ask(self.database, self.bars)

    def ask(self, history: History, bars: StoredBars) -> None:
        """Start a new calculator with another database."""
        self.calculator = Calculator(
            cast(Any, self.table), cast(Any, self.indicators), history, bars,
            StageEdges(
                self._deliver, cast(Any, None), cast(Any, None),
                Attempts(Path(os.devnull), "calculator", pipeline_metrics(UNREAD)), self.clock, UNREAD,
            ),
        )  # fmt: skip

    async def _deliver(self, partition: int, value: bytes) -> None:
        self.sent.append(value)

    async def take(self, batch: CandleBatch) -> float:
        """Feed a batch. Return the price_change_5m of the last row of metrics that it gives."""
        await self.calculator.handle(0, encode_candles(batch))
        metrics, _ = decode_metrics(self.sent[-1])
        return float(metrics.values[-1, COLUMN_POSITION["price_change_5m"]])
