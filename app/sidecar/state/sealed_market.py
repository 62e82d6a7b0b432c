"""The last sealed minute of all symbols, which follows the topic of the market role."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from aiokafka import ConsumerRecord

from app.errors import BadInput
from app.market.comovement import RETURN_COLUMN, MinuteReturns
from app.rules.language.arguments import MAX_DURATION_MINUTES
from app.rules.market.sealing import one_row_each
from app.rules.screen import MarketMinute
from app.sidecar.state.follower import Beginning
from app.telemetry import PipelineMetrics
from app.wire.market_minutes import MinuteReader

STAGE = "sidecar"

log = structlog.get_logger("sidecar.feeds")


class SealedMarket:
    """minute: None until one has been read. Its returns reach back to where reading began, at most a day."""

    def __init__(self, metrics: PipelineMetrics) -> None:
        self._metrics = metrics
        self._reader = MinuteReader()
        self._returns = MinuteReturns(MAX_DURATION_MINUTES)
        self.minute: MarketMinute | None = None

    def begin(self, partition: int, beginning: Beginning) -> None:
        """Drop the parts of a minute whose other parts are gone."""
        self._reader = MinuteReader()

    def take(self, records: Sequence[ConsumerRecord], _: bool) -> None:
        for record in records:
            try:
                parts = self._reader.take(record.key, record.value)
            except BadInput as error:
                self._metrics.dead_letters.labels(STAGE, error.reason).inc()
                log.warning("record_skipped", topic=record.topic, offset=record.offset, fault=str(error))
                continue
            if parts is not None:
                self._note(MarketMinute(one_row_each(parts), self._returns))

    def _note(self, minute: MarketMinute) -> None:
        rows = minute.rows
        at_ms = int(rows.open_time_ms[0])
        if self.minute is not None and at_ms <= int(self.minute.rows.open_time_ms[0]):
            return
        if RETURN_COLUMN in rows.columns:
            self._returns.take(at_ms, rows.symbols, rows.values[:, rows.columns.index(RETURN_COLUMN)])
        self.minute = minute
