"""Processing of followed records: new alerts go to all clients, metrics into memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import structlog
from aiokafka import ConsumerRecord

from app.clock import Clock
from app.errors import BadInput
from app.process.attempt_records import Record
from app.process.quarantine import Attempts
from app.rules.alert_shown import shown
from app.sidecar.live.alert_groups import AlertGroups
from app.sidecar.live.alert_log import AlertLog, LoggedAlert
from app.sidecar.live.latest_channel import LatestChannel
from app.sidecar.state.follower import Beginning
from app.sidecar.state.latest import LatestMetrics
from app.sidecar.state.limits import SidecarLimits
from app.telemetry import PipelineMetrics
from app.telemetry.tracing import recorder
from app.wire.barrier import Barrier
from app.wire.frames import FrameInfo, decode_metrics

STAGE = "sidecar"
_PACE_MS = 120_000
_PACE_FRAMES = 5_000
BEGAN_ANEW = "the sequence of alerts started again: reconnect"

log = structlog.get_logger("sidecar.feeds")


T = TypeVar("T")


def _noted(record: ConsumerRecord) -> Record:
    return Record(f"{record.topic}/{record.partition}", record.offset, record.timestamp or 0)


def _place(record: ConsumerRecord) -> dict[str, object]:
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}


class BadRecords:
    """Skips and counts records that are invalid, or at which the sidecar failed or ended. It may skip them, because all
    it does with a record is to show it."""

    def __init__(self, stage: str, metrics: PipelineMetrics, attempts: Attempts) -> None:
        """stage: the label under which they are counted."""
        self._stage = stage
        self._metrics = metrics
        self._attempts = attempts

    @contextmanager
    def skipping(self, record: ConsumerRecord) -> Iterator[None]:
        """Catch the block's errors for a record. The block must not await."""
        noted = _noted(record)
        with self._attempts.watch(noted), self._caught(record):
            yield
        self._attempts.done(noted)

    @contextmanager
    def _caught(self, record: ConsumerRecord) -> Iterator[None]:
        try:
            yield
        except BadInput as error:
            self.note(record, error)
        except Exception as error:  # the next record must not suffer
            log.exception(
                "record_failed", topic=record.topic, partition=record.partition, offset=record.offset
            )
            self.note(record, BadInput("failed", repr(error)))

    def each(self, records: Sequence[ConsumerRecord], use: Callable[[ConsumerRecord], T]) -> list[T | None]:
        """Return the result of `use` for each record of one partition; None where it raised, or where the sidecar ended
        too often. `use` must not await. Noting a record takes as long as processing an alert: unless a process has
        ended at one lately, all records are noted together."""
        if self._attempts.knows_any or not records:
            return [self._alone(record, use) for record in records]
        found: list[T | None] = []
        with self._attempts.watch(_noted(records[0]), _noted(records[-1])):
            for record in records:
                made: T | None = None
                try:
                    made = use(record)
                except Exception as error:
                    with self._caught(record):
                        raise error
                found.append(made)
        return found

    def _alone(self, record: ConsumerRecord, use: Callable[[ConsumerRecord], T]) -> T | None:
        made: T | None = None
        if not self.is_set_aside(record):
            with self.skipping(record):
                made = use(record)
        return made

    def is_set_aside(self, record: ConsumerRecord) -> bool:
        """Return whether the sidecar ended at the record too often; if so, count it."""
        noted = _noted(record)
        verdict = self._attempts.verdict(noted)
        if verdict:
            self.note(record, verdict.bad_input())
            self._attempts.set_aside(noted, verdict)
        return verdict is not None

    def note(self, record: ConsumerRecord, error: BadInput) -> None:
        self._metrics.dead_letters.labels(self._stage, error.reason).inc()
        log.warning("record_skipped", **_place(record), fault=str(error))

    def note_rows(self, record: ConsumerRecord, info: FrameInfo) -> None:
        """Note the rows left out of a frame with other, valid rows."""
        for reason, count in info.refused.items():
            self._metrics.dead_letters.labels(self._stage, reason).inc(count)
        if info.refused:
            log.warning("rows_skipped", **_place(record), fault=info.refusal)


class AlertFeed:
    """Puts the followed alerts into the log, and sends them to every receiver."""

    def __init__(
        self,
        alerts: AlertLog,
        groups: AlertGroups,
        limits: SidecarLimits,
        clock: Clock,
        metrics: PipelineMetrics,
        attempts: Attempts,
    ) -> None:
        self._alerts = alerts
        self._groups = groups
        self._limits = limits
        self._clock = clock
        self._rows = metrics.rows.labels(STAGE)
        self._latency = metrics.stage_latency.labels(STAGE)
        self._bad = BadRecords(STAGE, metrics, attempts)
        self._learn_until = 0
        self.epoch = 0
        """Grows when reading begins, and whenever the sequence starts again."""

    def begin(self, _: int, beginning: Beginning) -> None:
        """Note a new start of reading. A repeat may come well after its original, so of the first records only the ids
        are remembered."""
        whole = beginning.offset == beginning.first == 0
        self._learn_until = beginning.offset + (0 if whole else self._limits.repeat_distance)
        self._alerts.restart(beginning.offset - 1)
        self.epoch += 1
        if self.epoch > 1:
            for receiver in self._groups:
                receiver.close(1012, BEGAN_ANEW)

    def take(self, records: Sequence[ConsumerRecord], news: bool) -> None:
        now_ms = self._clock.now_ms()
        taken = self._bad.each(records, lambda record: self._take_one(record, now_ms))
        for record, logged in zip(records, taken, strict=True):
            if logged is None:
                self._alerts.skip(record.offset)
        if new := [logged for logged in taken if logged is not None]:
            self._groups.broadcast(new)
            if news:
                self._note_latencies(new, now_ms)

    def _take_one(self, record: ConsumerRecord, now_ms: int) -> LoggedAlert | None:
        """Add the alert of a record to the log and return it; None for a barrier, and for an alert that clients need
        not receive. Raises BadInput for any other record."""
        value = record.value or b""
        if Barrier.decode(value) is not None:
            return None
        alert = LoggedAlert.of_document(*shown(value, record.offset, now_ms))
        self._rows.inc()
        if self._alerts.is_repeat(alert.id):
            return None
        if record.offset < self._learn_until:
            self._alerts.learn(alert.id, record.offset)
            return None
        self._alerts.append(alert)
        return alert

    def _note_latencies(self, alerts: Sequence[LoggedAlert], now_ms: int) -> None:
        for alert in alerts:
            if alert.ingest_ts_ms is not None:
                self._latency.observe(max(0, now_ms - alert.ingest_ts_ms) / 1000)


class _Pace:
    """The distance between frames with forming candles, over the last two minutes."""

    def __init__(self) -> None:
        self._gaps: deque[tuple[int, int]] = deque(maxlen=_PACE_FRAMES)
        """(UTC ms, ms since the one before)."""
        self._last_ms = 0
        self._newest_ms = 0

    def note(self, sent_ms: int, forming: bool) -> None:
        self._newest_ms = max(self._newest_ms, sent_ms)
        if not forming or sent_ms <= self._last_ms:
            return
        if self._last_ms:
            self._gaps.append((sent_ms, sent_ms - self._last_ms))
        self._last_ms = sent_ms
        while self._gaps and self._gaps[0][0] < sent_ms - _PACE_MS:
            self._gaps.popleft()

    @property
    def longest_ms(self) -> int | None:
        """The longest distance; None if no forming candles come, or only closed candles still come."""
        if not self._gaps or self._newest_ms - self._last_ms > _PACE_MS:
            return None
        return max(gap_ms for _, gap_ms in self._gaps)


class MetricsFeed:
    """Puts the followed metrics into the latest values and their channels, and notes when each stage last sent
    something."""

    def __init__(
        self,
        latest: LatestMetrics,
        channels: Sequence[LatestChannel],
        clock: Clock,
        metrics: PipelineMetrics,
        attempts: Attempts,
    ) -> None:
        self._clock = clock
        self._latest = latest
        self._channels = channels
        self._metrics = metrics
        self._bad = BadRecords(STAGE, metrics, attempts)
        self.stage_ts_ms: dict[str, int] = {}
        """Stage -> UTC ms at which it last sent a frame that arrived here."""
        self._pace = _Pace()

    def expected_within_s(self, limits: SidecarLimits) -> float:
        """Return the largest expected age of a stage's last frame: seconds while forming candles come in, minutes where
        only closed ones do."""
        longest_ms = self._pace.longest_ms
        if longest_ms is None:
            return limits.stale_after_s
        return min(limits.stale_after_s, max(limits.stale_ticking_s, 3 * longest_ms / 1000))

    def begin(self, partition: int, beginning: Beginning) -> None:
        """Do nothing: newer values replace known values."""

    def take(self, records: Sequence[ConsumerRecord], _: bool) -> None:
        self._bad.each(records, self._take_one)

    def _take_one(self, record: ConsumerRecord) -> None:
        """Store a frame of metrics. Raises BadInput for an invalid one."""
        value = record.value or b""
        if Barrier.decode(value) is not None:
            return
        began_s = time.perf_counter()
        batch, info = decode_metrics(value)
        self._bad.note_rows(record, info)
        self._latest.take(batch)
        for channel in self._channels:
            channel.note(batch)
        self._metrics.frames.labels(STAGE).inc()
        self._metrics.rows.labels(STAGE).inc(len(batch))
        self._follow(info.frame_id, time.perf_counter() - began_s)
        now_ms = self._clock.now_ms()
        for stage, ts_ms in info.stage_ts_ms.items():
            # a time ahead of the clock must not make later silence look fresh
            self.stage_ts_ms[stage] = max(min(ts_ms, now_ms), self.stage_ts_ms.get(stage, 0))
        self._pace.note(info.stage_ts_ms.get("calculator", 0), not batch.closed.all())

    def _follow(self, frame_id: str, duration_s: float) -> None:
        log.debug("frame_done", frame_id=frame_id)
        spans = recorder()
        if spans:
            spans.record(STAGE, frame_id, end_ms=self._clock.now_ms(), duration_s=duration_s)
