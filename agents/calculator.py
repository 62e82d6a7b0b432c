"""The calculator: the rolling windows and indicators of every symbol, on every update.

[candles] frames of candles -> [metrics] frames of metrics. Table `market`: the closed candles, by minute;
table `indicators`: periodic snapshots of the recursive indicator states. Together they restore the market matrix
after a restart; symbols they lack come from the database, with minutes and longer bars.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial

import numpy as np

from agents.stage import Stage
from app.candles.batch import MINUTE_MS, CandleBatch
from app.candles.departures import Departures
from app.market.matrix import MarketMatrix
from app.market.metrics import MetricsBatch
from app.market.rings.packing import unpack_minute
from app.process.faust_worker.stage_edges import StageEdges
from app.telemetry import calculator_metrics
from app.wire.frames import FrameInfo, decode_bars, decode_candles, encode_metrics, is_bars, is_empty
from tables.minutes import MinuteTable
from tables.shards import ShardTable

HISTORY_MINUTES = 2880
_ROWS_PER_FRAME = 4_000
"""A metrics row takes 1.8 KB. Frames of a thousand rows cost a replay 5 % less CPU, but the alert agent processes one
record after the other, each with its round trips: 16,500 candles/s instead of 28,500."""
_SNAPSHOT_EVERY_MS = 60 * MINUTE_MS
_SNAPSHOT_GRACE_MS = 10 * MINUTE_MS
_REFILL_RETRY_MS = 30_000
_BARS_WAITING = 500
"""How many records of bars may wait; beyond that the oldest are dropped."""

History = Callable[[int, int, int], Awaitable[CandleBatch | None]]
"""Closed candles of a shard from the database: [since_ms, until_ms) by open time. None if the database is down."""
StoredBars = Callable[[Sequence[str], int], Awaitable[Mapping[str, CandleBatch] | None]]
"""Reads from the database the bars of symbols that had ended by a time: timeframe -> bars. None if it is down."""


class Calculator(Stage):
    name = "calculator"

    def __init__(
        self,
        market: MinuteTable,
        indicators: ShardTable,
        history: History,
        stored_bars: StoredBars,
        edges: StageEdges,
    ) -> None:
        super().__init__(market, edges)
        self._metrics = calculator_metrics(edges.registry)
        self._indicators = indicators
        self._history = history
        self._stored_bars = stored_bars
        self._matrices: dict[int, MarketMatrix] = {}
        self._unfilled: dict[int, tuple[tuple[str, ...], int]] = {}
        """Pending refills by shard: the symbols that need none, and the minute before which the others need it."""
        self._refilled: set[int] = set()
        self._ask_history_ms = 0
        """When the database may be asked again after it did not answer: one time for all shards, since each attempt
        holds up the stream."""
        self._snapshot_ms: dict[int, int] = {}
        self._departures: dict[int, Departures] = {}
        self._bars: dict[int, list[tuple[str, CandleBatch]]] = {}
        """Bars that wait until the shard is refilled: the refill would skip symbols known from bars alone."""

    async def handle(self, partition: int, data: bytes) -> None:
        if is_bars(data):
            waiting = self._bars.setdefault(partition, [])
            timeframe, bars, info = decode_bars(data)
            self.follow(info)
            waiting.append((timeframe, bars))
            del waiting[:-_BARS_WAITING]
            return
        batch, info = decode_candles(data)
        self.follow(info)
        if is_empty(batch, info):
            await self._deliver(partition, encode_metrics(MetricsBatch.empty(), info))
        if not len(batch):
            return
        matrix = self._matrix(partition)
        await self._refill(partition, batch)
        self._warm_up(partition)
        self._forget_left(partition, batch)
        began = time.perf_counter()
        metrics = matrix.update(batch)
        self._metrics.calculation_duration.observe(time.perf_counter() - began)
        await self._send(partition, metrics, self.stamped(info))
        self._record(partition, batch)
        self._keep_indicators(partition, batch)
        self._metrics.candles_processed.inc(len(batch))
        self._metrics.metrics_calculated.inc(len(metrics))
        self.count(partition, batch.ingest_ts_ms, len(batch))

    def _forget_left(self, partition: int, batch: CandleBatch) -> None:
        matrix, newest_ms = self._matrix(partition), int(batch.open_time_ms.max())
        if partition not in self._departures:
            self._departures[partition] = Departures()
            self._departures[partition].note(matrix.symbols, newest_ms)
        for symbol in self._departures[partition].note(batch.symbols, newest_ms):
            matrix.drop_symbol(symbol)

    def _warm_up(self, partition: int) -> None:
        """Take in the waiting bars, and have the states made of them written soon."""
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
        self._write_minutes(partition, sorted(set(closed_ms.tolist())))

    def _write_minutes(self, partition: int, open_times_ms: Sequence[int]) -> None:
        packed = self._matrix(partition).pack_minutes(open_times_ms)
        for open_time_ms, minute in zip(open_times_ms, packed, strict=True):
            self._minutes.write(partition, open_time_ms, minute)

    def _note_size(self, partition: int, matrix: MarketMatrix) -> None:
        metrics = self._metrics
        metrics.symbols.labels(partition).set(len(matrix.symbols))
        metrics.memory_bytes.labels(partition).set(matrix.memory_bytes())
        metrics.ring_minutes.labels(partition).set(matrix.minutes_held)

    def _keep_indicators(self, partition: int, batch: CandleBatch) -> None:
        """Write the indicator states when they are due. This takes ten milliseconds for hundreds of symbols, so it
        waits, for a limited time, for a frame other than the closes of a minute, whose alerts come next."""
        newest_ms = int(batch.open_time_ms.max())
        overdue_ms = newest_ms - self._snapshot_ms.get(partition, 0) - _SNAPSHOT_EVERY_MS
        closes_a_minute = batch.closed.any() and batch.open_time_ms.min() == newest_ms
        if overdue_ms < (_SNAPSHOT_GRACE_MS if closes_a_minute else 0):
            return
        self._indicators.write(partition, self._matrix(partition).indicator_snapshot())
        self._snapshot_ms[partition] = newest_ms

    def forget(self, partition: int) -> None:
        if self._matrices.pop(partition, None) is not None:
            metrics = self._metrics
            for gauge in (metrics.symbols, metrics.memory_bytes, metrics.ring_minutes):
                # another worker shows this shard from now on
                gauge.labels(partition).set(0)
        self._unfilled.pop(partition, None)
        self._refilled.discard(partition)
        self._snapshot_ms.pop(partition, None)
        self._bars.pop(partition, None)
        self._departures.pop(partition, None)

    def restore(self, partitions: Collection[int]) -> None:
        self._minutes.rearm_expiry()
        for shard, snapshot in self._indicators.items():
            if shard in partitions:
                matrix = MarketMatrix()
                if self.take_back("indicators", shard, snapshot, matrix.restore_indicators):
                    self._matrices[shard] = matrix
        minutes = [item for item in self._minutes.items() if item[0] in partitions]
        for shard, _, packed in sorted(minutes, key=lambda item: item[1]):
            self.take_back("market", shard, packed, partial(self._restore_minute, shard))
        for shard in partitions:
            self._matrix(shard).drop_left()

    def _restore_minute(self, shard: int, packed: bytes) -> None:
        self._matrix(shard).restore_minutes(unpack_minute(packed))

    def _matrix(self, partition: int) -> MarketMatrix:
        matrix = self._matrices.get(partition)
        if matrix is None:
            matrix = self._matrices[partition] = MarketMatrix()
        return matrix

    async def _refill(self, partition: int, batch: CandleBatch) -> None:
        """Load the past of symbols missing in the tables from the database, once per shard after a start: minutes, and
        bars for the indicators that need more than a day.

        Symbols in the tables are not loaded: a minute of theirs that is in the database may still wait in the topic,
        where it must cause its metrics and alerts, and a known candle causes neither. For the same reason only
        minutes before the first minute of the first batch are loaded. Loaded minutes go into the table.
        """
        if partition in self._refilled:
            return
        matrix = self._matrix(partition)
        # a late answer of the database must not count candles that came meanwhile as known
        first = (matrix.symbols, int(batch.open_time_ms.min()))
        known_symbols, first_ms = self._unfilled.setdefault(partition, first)
        if self.clock.now_ms() < self._ask_history_ms:
            return
        past = await self._past(partition, known_symbols, first_ms)
        if past is None:
            self._ask_history_ms = self.clock.now_ms() + _REFILL_RETRY_MS
            return
        self._refilled.add(partition)
        del self._unfilled[partition]
        minutes, bars = past
        if len(minutes):
            matrix.restore_minutes(minutes)
            for timeframe, of_timeframe in bars.items():
                matrix.warm_up_bars(timeframe, of_timeframe)
            matrix.drop_left()
            self._write_minutes(partition, np.unique(minutes.open_time_ms).tolist())
            self._snapshot_ms.pop(partition, None)
            self.log.info(
                "market_refilled", shard=partition, candles=len(minutes), bars=sum(map(len, bars.values()))
            )

    async def _past(
        self, partition: int, known_symbols: tuple[str, ...], until_ms: int
    ) -> tuple[CandleBatch, Mapping[str, CandleBatch]] | None:
        """Return minutes and bars of the shard's other symbols from the database, None if it does not answer. Bars that
        cannot be read do not keep the minutes back: the feed may send them."""
        found = await self._history(partition, until_ms - HISTORY_MINUTES * MINUTE_MS, until_ms)
        if found is None or not len(found):
            return None if found is None else (found, {})
        known = np.isin(found.symbols, known_symbols)
        missing = found.take(~known[found.symbol_index]).compact()
        bars = await self._stored_bars(missing.symbols, until_ms) if len(missing) else {}
        return missing, bars or {}
