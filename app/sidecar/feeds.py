"""What the sidecar does with the records it follows: new alerts go to all clients, metrics into memory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import structlog
from aiokafka import ConsumerRecord

from app.barrier import Barrier
from app.clock import Clock
from app.database.stored_alert import StoredAlert, parse_alert
from app.errors import BadInput
from app.frames import decode_metrics
from app.sidecar.alert_groups import AlertGroups
from app.sidecar.alert_log import AlertLog, LoggedAlert
from app.sidecar.follower import Beginning
from app.sidecar.latest import LatestMetrics
from app.sidecar.latest_channel import LatestChannel
from app.sidecar.limits import SidecarLimits
from app.telemetry import PipelineMetrics
from app.tracing import recorder

STAGE = "sidecar"
BEGAN_ANEW = "the sequence of alerts began anew: connect again"

log = structlog.get_logger("sidecar.feeds")


class _BadRecords:
    def __init__(self, metrics: PipelineMetrics) -> None:
        self._metrics = metrics

    def note(self, record: ConsumerRecord, error: BadInput) -> None:
        self._metrics.dead_letters.labels(STAGE, error.input_reason).inc()
        log.warning(
            "record_skipped",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            fault=str(error),
        )


class AlertFeed:
    """Follows the topic of alerts into the log, and to every receiver."""

    def __init__(
        self,
        alerts: AlertLog,
        groups: AlertGroups,
        limits: SidecarLimits,
        clock: Clock,
        metrics: PipelineMetrics,
    ) -> None:
        self._alerts = alerts
        self._groups = groups
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._bad = _BadRecords(metrics)
        self._learn_until = 0
        self.epoch = 0
        """Grows when reading begins, and whenever the sequence begins anew."""

    def begin(self, _: int, beginning: Beginning) -> None:
        """A repeat may follow its first at some distance, so the first records only teach their ids."""
        whole = beginning.offset == beginning.first == 0
        self._learn_until = beginning.offset + (0 if whole else self._limits.repeat_distance)
        self._alerts.restart(beginning.offset - 1)
        self.epoch += 1
        if self.epoch > 1:
            for receiver in self._groups:
                receiver.close(1012, BEGAN_ANEW)

    def take(self, records: Sequence[ConsumerRecord], news: bool) -> None:
        now_ms = self._clock.now_ms()
        new: list[LoggedAlert] = []
        for record in records:
            alert = self._new_alert(record)
            if alert is None:
                self._alerts.skip(record.offset)
            elif record.offset < self._learn_until:
                self._alerts.learn(alert.alert["id"], record.offset)
            else:
                logged = LoggedAlert.of(record.offset, alert.alert, now_ms)
                self._alerts.append(logged)
                new.append(logged)
                if news:
                    self._note_latency(alert.alert["timings"], now_ms)
        if new:
            self._groups.broadcast(new)

    def _new_alert(self, record: ConsumerRecord) -> StoredAlert | None:
        """The alert of a record; None for a barrier, a repeat, or what is no alert."""
        value = record.value or b""
        if Barrier.decode(value) is not None:
            return None
        try:
            alert = parse_alert(value, record.offset)
        except BadInput as error:
            self._bad.note(record, error)
            return None
        self._metrics.rows.labels(STAGE).inc()
        return None if self._alerts.is_repeat(alert.alert["id"]) else alert

    def _note_latency(self, timings: Mapping[str, object], now_ms: int) -> None:
        ingest_ts_ms = timings.get("ingest_ts_ms")
        if isinstance(ingest_ts_ms, int):
            self._metrics.stage_latency.labels(STAGE).observe(max(0, now_ms - ingest_ts_ms) / 1000)


class MetricsFeed:
    """Follows the topic of metrics into the latest values and the channels of them, and notes when each stage
    last sent something."""

    def __init__(
        self,
        latest: LatestMetrics,
        channels: Sequence[LatestChannel],
        clock: Clock,
        metrics: PipelineMetrics,
    ) -> None:
        self._clock = clock
        self._latest = latest
        self._channels = channels
        self._metrics = metrics
        self._bad = _BadRecords(metrics)
        self.stage_ts_ms: dict[str, int] = {}
        """Stage -> UTC ms at which it last sent a frame that arrived here."""

    def begin(self, partition: int, beginning: Beginning) -> None:
        """Nothing to forget: what is newer replaces what is known."""

    def take(self, records: Sequence[ConsumerRecord], _: bool) -> None:
        for record in records:
            value = record.value or b""
            if Barrier.decode(value) is not None:
                continue
            began_s = time.perf_counter()
            try:
                batch, info = decode_metrics(value)
            except BadInput as error:
                self._bad.note(record, error)
                continue
            self._latest.take(batch)
            for channel in self._channels:
                channel.note(batch)
            self._metrics.frames.labels(STAGE).inc()
            self._metrics.rows.labels(STAGE).inc(len(batch))
            self._follow(info.frame_id, time.perf_counter() - began_s)
            for stage, ts_ms in info.stage_ts_ms.items():
                self.stage_ts_ms[stage] = max(ts_ms, self.stage_ts_ms.get(stage, 0))

    def _follow(self, frame_id: str, duration_s: float) -> None:
        log.debug("frame_done", frame_id=frame_id)
        spans = recorder()
        if spans:
            spans.record(STAGE, frame_id, end_ms=self._clock.now_ms(), duration_s=duration_s)
