"""The collector: valid, deduplicated minutes in order of time, and a report of every gap.

[ingress] frames of candles -> [candles] frames of candles, and reports of gaps -> [gaps].
Table `minutes`: the known candles, by minute.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Final

import numpy as np
import orjson

from agents.stage import Stage
from app.candles.batch import BoolArray, CandleBatch
from app.candles.known_minutes import Accepted, KnownMinutes
from app.candles.open_gaps import OpenGaps
from app.candles.validity import EXPLANATIONS, Reason, check
from app.process.faust_worker.stage_edges import StageEdges
from app.telemetry import collector_metrics
from app.wire.barrier import StageFacts
from app.wire.dead_letters import DeadLetter
from app.wire.frames import decode_candles, encode_candles, is_empty
from app.wire.gap_reports import ReportGaps
from tables.minutes import MinuteTable

_SHOWN_ROWS: Final = 10
"""How many rejected candles of a frame a dead letter holds."""


class Collector(Stage):
    name = "collector"

    def __init__(
        self, table: MinuteTable, report_gaps: ReportGaps, symbols_per_shard: int, edges: StageEdges
    ) -> None:
        """symbols_per_shard: bounds the memory of every stage; candles of further symbols are rejected."""
        super().__init__(table, edges)
        self._metrics = collector_metrics(edges.registry)
        self._symbols_per_shard = symbols_per_shard
        self._report_gaps = report_gaps
        self._known: dict[int, KnownMinutes] = {}
        self._open_gaps: dict[int, OpenGaps] = {}
        self._duplicates = 0
        self._gap_minutes = 0

    async def handle(self, partition: int, data: bytes) -> None:
        arrived, info = decode_candles(data)
        self.follow(info)
        if is_empty(arrived, info):
            await self._deliver(partition, data)
            return
        self._metrics.candles_received.inc(len(arrived))
        batch = await self._within_bound(partition, await self._valid(arrived))
        if not len(batch):
            self.count(partition, arrived.ingest_ts_ms, len(arrived))
            return
        accepted = self._minutes_of(partition).accept(batch)
        self._metrics.symbols.labels(partition).set(len(self._minutes_of(partition)))
        self._count(accepted, self._open_gaps.setdefault(partition, OpenGaps()))
        if len(accepted.batch):
            await self._deliver(partition, encode_candles(accepted.batch, self.stamped(info)))
            self._metrics.candles_published.inc(len(accepted.batch))
        if accepted.gaps:
            await self._report_gaps(accepted.gaps)
        for open_time_ms in accepted.closed_minutes_ms.tolist():
            self._minutes.write(
                partition, open_time_ms, self._minutes_of(partition).pack_minute(open_time_ms)
            )
        self.count(partition, arrived.ingest_ts_ms, len(arrived))

    def forget(self, partition: int) -> None:
        if self._known.pop(partition, None) is not None:
            # another worker shows this shard from now on
            self._metrics.symbols.labels(partition).set(0)
        self._open_gaps.pop(partition, None)

    def restore(self, partitions: Collection[int]) -> None:
        self._minutes.rearm_expiry()
        for shard, open_time_ms, packed in self._minutes.items():
            if shard in partitions:
                load = partial(self._minutes_of(shard).load_minute, open_time_ms)
                self.take_back("minutes", shard, packed, load)
        for shard in partitions:
            self._minutes_of(shard).drop_left()

    def facts(self, partition: int) -> StageFacts:
        return {"duplicates": self._duplicates, "gaps": self._gap_minutes}

    def _minutes_of(self, partition: int) -> KnownMinutes:
        return self._known.setdefault(partition, KnownMinutes())

    async def _valid(self, batch: CandleBatch) -> CandleBatch:
        """Return the valid rows; the bridge has checked already, but anything may write to the topic."""
        faults = check(batch, self.clock.now_ms())
        if not faults:
            return batch.compact()
        good = np.ones(len(batch), dtype=np.bool_)
        for mask, reason in faults:
            good &= ~mask
            await self._set_aside(batch, mask, reason, EXPLANATIONS[reason])
        return batch.take(good).compact()

    async def _within_bound(self, partition: int, batch: CandleBatch) -> CandleBatch:
        """Return the rows without symbols beyond the shard's limit; known symbols stay."""
        known = self._minutes_of(partition)
        room = max(0, self._symbols_per_shard - len(known))
        if len(batch.symbols) <= room:
            return batch
        beyond = [symbol for symbol in batch.symbols if symbol not in known][room:]
        if not beyond:
            return batch
        mask = np.isin(batch.symbols, beyond)[batch.symbol_index]
        text = f"shard {partition} has {self._symbols_per_shard} symbols, its maximum (SCREENER_SYMBOLS_MAX)"
        await self._set_aside(batch, mask, Reason.TOO_MANY_SYMBOLS, text)
        return batch.take(~mask).compact()

    async def _set_aside(self, batch: CandleBatch, mask: BoolArray, reason: Reason, text: str) -> None:
        """Send one dead letter for all rows of the mask, with the first few as its content."""
        rows = np.flatnonzero(mask)
        first = [_as_json(batch, row) for row in rows[:_SHOWN_ROWS].tolist()]
        symbols = sorted({batch.symbol_of(row) for row in rows[:_SHOWN_ROWS].tolist()})
        letter = DeadLetter(
            reason,
            text if len(rows) == 1 else f"{len(rows)} candles, of {', '.join(symbols)}...: {text}",
            symbols[0],
            first[0] if len(first) == 1 else b"[" + b",".join(first) + b"]",
            {reason: len(rows)},
        )
        await self._dead_letters.send(letter)

    def _count(self, accepted: Accepted, open_gaps: OpenGaps) -> None:
        metrics = self._metrics
        self._duplicates += accepted.duplicates
        metrics.duplicates.inc(accepted.duplicates)
        metrics.corrections.inc(accepted.corrections)
        metrics.late.inc(accepted.late)
        metrics.closed_minutes.inc(int(accepted.batch.closed.sum()) - accepted.corrections)
        # first: a minute that comes in the same frame as the one after the gap was never missing
        metrics.filled.inc(open_gaps.fill(accepted.batch))
        open_gaps.note(accepted.gaps)
        for gap in accepted.gaps:
            self._gap_minutes += gap.minutes
            metrics.gaps.inc(gap.minutes)
            self.log.warning("gap", symbol=gap.symbol, first_ms=gap.first_ms, minutes=gap.minutes)


def _as_json(batch: CandleBatch, row: int) -> bytes:
    fields = ("open_time_ms", "open", "high", "low", "close", "volume", "quote_volume", "trades", "closed")
    values = {name: getattr(batch, name)[row] for name in fields}
    return orjson.dumps({"symbol": batch.symbol_of(row), **values}, option=orjson.OPT_SERIALIZE_NUMPY)
