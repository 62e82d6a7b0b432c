"""What the calculator takes from the database after a start: the past of symbols its tables do not know."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from agents.calculator import Calculator
from app.candles.batch import DTYPES, MINUTE_MS, CandleBatch
from app.clock import ManualClock
from app.frames import decode_metrics, encode_candles
from app.market.columns import COLUMN_POSITION

START_MS = 1_618_617_600_000


def closed(symbol: str, first: int, count: int) -> CandleBatch:
    """`count` closed candles from minute `first` on, the close being 100 + minute."""
    minutes = np.arange(first, first + count)
    columns: dict[str, Any] = {name: np.zeros(count, dtype=dtype) for name, dtype in DTYPES.items()}
    columns["open_time_ms"] = START_MS + minutes * MINUTE_MS
    for name in ("open", "high", "low", "close"):
        columns[name] = 100.0 + minutes
    columns["quote_volume"] = np.ones(count)
    columns["volume"] = np.ones(count)
    columns["closed"] = np.ones(count, dtype=np.bool_)
    columns["event_ts_ms"] = columns["open_time_ms"] + MINUTE_MS
    return CandleBatch(symbols=(symbol,), **columns)


class Recorded:
    """A table that remembers what is written to it."""

    def __init__(self) -> None:
        self.written: list[int] = []

    def write(self, shard: int, open_time_ms: int, packed: bytes) -> None:
        self.written.append(open_time_ms)


class Unused:
    def write(self, shard: int, packed: bytes) -> None: ...


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


class Bench:
    def __init__(self, stored: CandleBatch | None) -> None:
        self.database = Database(stored)
        self.table = Recorded()
        self.sent: list[bytes] = []
        self.clock = ManualClock(START_MS)
        self.calculator = Calculator(
            cast(Any, self.table), cast(Any, Unused()), self.database,
            deliver=self._deliver, dead_letters=cast(Any, None), barriers=cast(Any, None), clock=self.clock,
        )  # fmt: skip

    async def _deliver(self, partition: int, value: bytes) -> None:
        self.sent.append(value)

    async def take(self, batch: CandleBatch) -> float:
        """The price_change_5m of the last row that follows from the batch."""
        await self.calculator.handle(0, encode_candles(batch))
        metrics, _ = decode_metrics(self.sent[-1])
        return float(metrics.values[-1, COLUMN_POSITION["price_change_5m"]])


async def test_the_past_of_an_unknown_symbol_comes_from_the_database_and_goes_into_the_table():
    bench = Bench(closed("AUSDT", 0, 10))
    change = await bench.take(closed("AUSDT", 8, 1))
    assert change == (108 / 103 - 1) * 100
    assert bench.table.written[:8] == [START_MS + minute * MINUTE_MS for minute in range(8)]
    assert bench.database.questions[0][2] == START_MS + 8 * MINUTE_MS


async def test_a_minute_of_the_database_that_still_waits_in_the_topic_causes_its_metrics():
    bench = Bench(closed("AUSDT", 0, 10))
    await bench.take(closed("AUSDT", 8, 1))
    before = len(bench.sent)
    await bench.take(closed("AUSDT", 9, 1))
    assert len(bench.sent) == before + 1


async def test_the_database_is_asked_once_a_shard():
    bench = Bench(closed("AUSDT", 0, 10))
    await bench.take(closed("AUSDT", 8, 1))
    await bench.take(closed("BUSDT", 9, 1))
    assert len(bench.database.questions) == 1


async def test_a_database_that_cannot_be_asked_is_asked_again_after_half_a_minute():
    bench = Bench(None)
    assert np.isnan(await bench.take(closed("AUSDT", 8, 1)))
    bench.database.stored = closed("BUSDT", 0, 9)
    await bench.take(closed("AUSDT", 9, 1))
    assert len(bench.database.questions) == 1
    bench.clock.advance_ms(30_000)
    change = await bench.take(closed("BUSDT", 9, 1))
    assert len(bench.database.questions) == 2
    assert change == (109 / 104 - 1) * 100
