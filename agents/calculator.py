"""The calculator: the rolling windows and indicators of every symbol, on every update.

[candles] frames of candles -> [metrics] frames of metrics. Table `market`: the closed candles, by minute;
table `indicators`: the recursive indicator states, now and then. Together they restore the market matrix
after a restart to what it was; minutes they lack come from the database.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any

import numpy as np

from agents.stage import Stage
from app.candles.batch import MINUTE_MS, CandleBatch
from app.frames import FrameInfo, decode_bars, decode_candles, encode_metrics, is_bars
from app.market.matrix import MarketMatrix
from app.market.metrics import MetricsBatch
from app.market.packing import unpack_minute
from app.telemetry import calculator_metrics
from tables.minutes import MinuteTable
from tables.shards import ShardTable

HISTORY_MINUTES = 2880
_ROWS_PER_FRAME = 4_000
"""A metrics row takes 1.8 KB. Frames of a thousand rows cost a replay 5 % less CPU, but the alert agent takes one
record after the other, each with its round trips: 16,500 candles/s instead of 28,500."""
_SNAPSHOT_EVERY_MS = 60 * MINUTE_MS
_SNAPSHOT_GRACE_MS = 10 * MINUTE_MS
_REFILL_RETRY_MS = 30_000
_BARS_WAITING = 500
"""Records of bars that wait at most; the oldest go."""

History = Callable[[int, int, int], Awaitable[CandleBatch | None]]
"""Closed candles of a shard from the database: [since_ms, until_ms) by open time. None if it cannot be asked."""


class Calculator(Stage):
    name = "calculator"

    def __init__(self, market: MinuteTable, indicators: ShardTable, history: History, **edges: Any) -> None:
        super().__init__(**edges)
        self._market = market
        self._indicators = indicators
        self._history = history
        self._matrices: dict[int, MarketMatrix] = {}
        self._unfilled: dict[int, tuple[tuple[str, ...], int]] = {}
        """What to refill still, by shard: the symbols that need none, and before which minute."""
        self._refilled: set[int] = set()
        self._ask_history_ms = 0
        """When the database, which did not answer, may be asked again: for any shard, since each attempt holds up
        the stream."""
        self._snapshot_ms: dict[int, int] = {}
        self._bars: dict[int, list[tuple[str, CandleBatch]]] = {}
        """Bars that wait until the shard is refilled: symbols known from them alone would not be."""

    async def handle(self, partition: int, data: bytes) -> None:
        if is_bars(data):
            waiting = self._bars.setdefault(partition, [])
            waiting.append(decode_bars(data))
            del waiting[:-_BARS_WAITING]
            return
        batch, info = decode_candles(data)
        self.follow(info)
        matrix = self._matrix(partition)
        await self._refill(partition, batch)
        self._warm_up(partition)
        began = time.perf_counter()
        metrics = matrix.update(batch)
        calculator_metrics().calculation_duration.observe(time.perf_counter() - began)
        await self._send(partition, metrics, self.stamped(info))
        self._record(partition, batch)
        self._keep_indicators(partition, batch)
        calculator_metrics().candles_processed.inc(len(batch))
        calculator_metrics().metrics_calculated.inc(len(metrics))
        self.count(partition, batch.ingest_ts_ms, len(batch))

    def _warm_up(self, partition: int) -> None:
        """Takes in the bars that have come, and sees to it that the states made of them are written soon."""
        if partition not in self._bars or partition not in self._refilled:
            return
        matrix = self._matrix(partition)
        for timeframe, bars in self._bars.pop(partition):
            matrix.warm_up_bars(timeframe, bars)
            self.log.info("warmed_up", shard=partition, timeframe=timeframe, symbols=len(bars.symbols))
        self._snapshot_ms.pop(partition, None)

    async def _send(self, partition: int, metrics: MetricsBatch, info: FrameInfo) -> None:
        for start in range(0, len(metrics), _ROWS_PER_FRAME):
            part = (
                metrics.take(slice(start, start + _ROWS_PER_FRAME))
                if len(metrics) > _ROWS_PER_FRAME
                else metrics
            )
            await self._deliver(partition, encode_metrics(part, info))

    def _record(self, partition: int, batch: CandleBatch) -> None:
        closed_ms = batch.open_time_ms[batch.closed]
        if not len(closed_ms):
            return
        matrix = self._matrix(partition)
        self._note_size(partition, matrix)
        for open_time_ms in sorted(set(closed_ms.tolist())):
            self._market.write(partition, open_time_ms, matrix.pack_minute(open_time_ms))

    def _note_size(self, partition: int, matrix: MarketMatrix) -> None:
        metrics = calculator_metrics()
        metrics.symbols.labels(partition).set(len(matrix.symbols))
        metrics.memory_bytes.labels(partition).set(matrix.memory_bytes())
        metrics.ring_minutes.labels(partition).set(matrix.minutes_held)

    def _keep_indicators(self, partition: int, batch: CandleBatch) -> None:
        """Writes the indicator states when it is time; which takes ten milliseconds for hundreds of symbols, so
        not with the closes of a minute, whose alerts come next, as long as there are other frames."""
        newest_ms = int(batch.open_time_ms.max())
        overdue_ms = newest_ms - self._snapshot_ms.get(partition, 0) - _SNAPSHOT_EVERY_MS
        closes_a_minute = batch.closed.any() and batch.open_time_ms.min() == newest_ms
        if overdue_ms < (_SNAPSHOT_GRACE_MS if closes_a_minute else 0):
            return
        self._indicators.write(partition, self._matrix(partition).indicator_snapshot())
        self._snapshot_ms[partition] = newest_ms

    def forget(self, partition: int) -> None:
        if self._matrices.pop(partition, None) is not None:
            metrics = calculator_metrics()
            for gauge in (metrics.symbols, metrics.memory_bytes, metrics.ring_minutes):
                # another worker shows this shard from now on
                gauge.labels(partition).set(0)
        self._unfilled.pop(partition, None)
        self._refilled.discard(partition)
        self._snapshot_ms.pop(partition, None)
        self._bars.pop(partition, None)

    def restore(self, partitions: Collection[int]) -> None:
        self._market.rearm_expiry()
        for shard, snapshot in self._indicators.items():
            if shard in partitions:
                matrix = MarketMatrix()
                if self.take_back("indicators", shard, partial(matrix.restore_indicators, snapshot)):
                    self._matrices[shard] = matrix
        minutes = [item for item in self._market.items() if item[0] in partitions]
        for shard, _, packed in sorted(minutes, key=lambda item: item[1]):
            self.take_back("market", shard, partial(self._restore_minute, shard, packed))

    def _restore_minute(self, shard: int, packed: bytes) -> None:
        self._matrix(shard).restore_minutes(unpack_minute(packed))

    def _matrix(self, partition: int) -> MarketMatrix:
        matrix = self._matrices.get(partition)
        if matrix is None:
            matrix = self._matrices[partition] = MarketMatrix()
        return matrix

    async def _refill(self, partition: int, batch: CandleBatch) -> None:
        """Once per shard after a start: the past of symbols that the tables do not know, from the database.

        Those that the tables know need none; and a minute of theirs that is in the database may still be waiting
        in the topic, where it must cause its metrics and alerts: a candle known already causes none. For the same
        reason only minutes older than the first batch's first are taken. What is taken goes into the table.
        """
        if partition in self._refilled:
            return
        matrix = self._matrix(partition)
        # a database that answers late must not take those for known that came meanwhile
        first = (matrix.symbols, int(batch.open_time_ms.min()))
        known_symbols, first_ms = self._unfilled.setdefault(partition, first)
        if self.clock.now_ms() < self._ask_history_ms:
            return
        found = await self._history(partition, first_ms - HISTORY_MINUTES * MINUTE_MS, first_ms)
        if found is None:
            self._ask_history_ms = self.clock.now_ms() + _REFILL_RETRY_MS
            return
        self._refilled.add(partition)
        del self._unfilled[partition]
        known = np.isin(found.symbols, known_symbols)
        missing = found.take(~known[found.symbol_index]) if len(found) else found
        if len(missing):
            matrix.restore_minutes(missing)
            for open_time_ms in np.unique(missing.open_time_ms).tolist():
                self._market.write(partition, open_time_ms, matrix.pack_minute(open_time_ms))
            self.log.info("market_refilled", shard=partition, candles=len(missing))
