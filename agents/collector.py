"""The collector: valid, deduplicated minutes in order of time, and a word about every gap.

[ingress] frames of candles -> [candles] frames of candles, and reports of gaps -> [gaps].
Table `minutes`: what is known, by minute.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
import orjson

from agents.stage import Stage
from app.candles.batch import CandleBatch
from app.candles.known_minutes import Accepted, KnownMinutes
from app.candles.open_gaps import OpenGaps
from app.candles.validity import EXPLANATIONS, check
from app.dead_letters import DeadLetter
from app.frames import decode_candles, encode_candles
from app.gap_reports import ReportGaps
from app.telemetry import collector_metrics
from tables.minutes import MinuteTable


class Collector(Stage):
    name = "collector"

    def __init__(self, table: MinuteTable, report_gaps: ReportGaps, **edges: Any) -> None:
        super().__init__(**edges)
        self._table = table
        self._report_gaps = report_gaps
        self._known: dict[int, KnownMinutes] = {}
        self._open_gaps: dict[int, OpenGaps] = {}

    async def handle(self, partition: int, data: bytes) -> None:
        arrived, info = decode_candles(data)
        self.follow(info)
        collector_metrics().candles_received.inc(len(arrived))
        batch = await self._valid(arrived)
        accepted = self._minutes_of(partition).accept(batch)
        self._count(accepted, self._open_gaps.setdefault(partition, OpenGaps()))
        if len(accepted.batch):
            await self._deliver(partition, encode_candles(accepted.batch, self.stamped(info)))
            collector_metrics().candles_published.inc(len(accepted.batch))
        if accepted.gaps:
            await self._report_gaps(accepted.gaps)
        for open_time_ms in accepted.closed_minutes_ms.tolist():
            self._table.write(partition, open_time_ms, self._minutes_of(partition).pack_minute(open_time_ms))
        self.count(partition, arrived.ingest_ts_ms, len(arrived))

    def forget(self, partition: int) -> None:
        self._known.pop(partition, None)
        self._open_gaps.pop(partition, None)

    def restore(self, partitions: Collection[int]) -> None:
        self._table.rearm_expiry()
        for shard, open_time_ms, packed in self._table.items():
            if shard in partitions:
                load = partial(self._minutes_of(shard).load_minute, open_time_ms, packed)
                self.take_back("minutes", shard, load)

    def facts(self, partition: int) -> Mapping[str, Any]:
        metrics = collector_metrics()
        return {"duplicates": metrics.duplicates._value.get(), "gaps": metrics.gaps._value.get()}

    def _minutes_of(self, partition: int) -> KnownMinutes:
        return self._known.setdefault(partition, KnownMinutes())

    async def _valid(self, batch: CandleBatch) -> CandleBatch:
        """The valid rows; the bridge has checked already, but anything may write to the topic."""
        faults = check(batch, self.clock.now_ms())
        if not faults:
            return batch
        good = np.ones(len(batch), dtype=np.bool_)
        for mask, reason in faults:
            good &= ~mask
            for row in np.flatnonzero(mask).tolist():
                letter = DeadLetter(reason, EXPLANATIONS[reason], batch.symbol_of(row), _as_json(batch, row))
                await self._dead_letters.send(letter)
        return batch.take(good)

    def _count(self, accepted: Accepted, open_gaps: OpenGaps) -> None:
        metrics = collector_metrics()
        metrics.duplicates.inc(accepted.duplicates)
        metrics.corrections.inc(accepted.corrections)
        metrics.late.inc(accepted.late)
        metrics.closed_minutes.inc(int(accepted.batch.closed.sum()) - accepted.corrections)
        # first: a minute that comes in the same frame as the one after the gap was never missing
        metrics.filled.inc(open_gaps.fill(accepted.batch))
        open_gaps.note(accepted.gaps)
        for gap in accepted.gaps:
            metrics.gaps.inc(gap.minutes)
            self.log.warning("gap", symbol=gap.symbol, first_ms=gap.first_ms, minutes=gap.minutes)


def _as_json(batch: CandleBatch, row: int) -> bytes:
    fields = ("open_time_ms", "open", "high", "low", "close", "volume", "quote_volume", "trades", "closed")
    values = {name: getattr(batch, name)[row] for name in fields}
    return orjson.dumps({"symbol": batch.symbol_of(row), **values}, option=orjson.OPT_SERIALIZE_NUMPY)
