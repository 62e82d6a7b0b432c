"""A calculator without Faust: frames in, metrics out, its tables and its database remembered."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from agents.calculator import Calculator
from app.candles.batch import DTYPES, MINUTE_MS, CandleBatch
from app.clock import ManualClock
from app.frames import decode_metrics, encode_candles
from app.market.columns import COLUMN_POSITION

START_MS = 1_618_617_600_000


def candles(symbol: str, first: int, count: int, *, closed: bool = True) -> CandleBatch:
    """`count` candles from minute `first` on, the close being 100 + minute."""
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
    """A table of minutes that remembers which were written."""

    def __init__(self) -> None:
        self.written: list[int] = []

    def write(self, shard: int, open_time_ms: int, packed: bytes) -> None:
        self.written.append(open_time_ms)


class Values:
    """A table of one value per shard that counts what is written."""

    def __init__(self) -> None:
        self.writes = 0

    def write(self, shard: int, packed: bytes) -> None:
        self.writes += 1


class Database:
    """Answers with `stored` (None: it cannot be asked) and remembers the questions."""

    def __init__(self, stored: CandleBatch | None) -> None:
        self.stored = stored
        self.questions: list[tuple[int, int, int]] = []

    async def __call__(self, shard: int, since_ms: int, until_ms: int) -> CandleBatch | None:
        self.questions.append((shard, since_ms, until_ms))
        if self.stored is None:
            return None
        return self.stored.take(self.stored.open_time_ms < until_ms)


class CalculatorBench:
    def __init__(self, stored: CandleBatch | None = None) -> None:
        self.database = Database(stored)
        self.table = Minutes()
        self.indicators = Values()
        self.sent: list[bytes] = []
        self.clock = ManualClock(START_MS)
        self.calculator = Calculator(
            cast(Any, self.table), cast(Any, self.indicators), self.database,
            deliver=self._deliver, dead_letters=cast(Any, None), barriers=cast(Any, None), clock=self.clock,
        )  # fmt: skip

    async def _deliver(self, partition: int, value: bytes) -> None:
        self.sent.append(value)

    async def take(self, batch: CandleBatch) -> float:
        """The price_change_5m of the last row that follows from the batch."""
        await self.calculator.handle(0, encode_candles(batch))
        metrics, _ = decode_metrics(self.sent[-1])
        return float(metrics.values[-1, COLUMN_POSITION["price_change_5m"]])
