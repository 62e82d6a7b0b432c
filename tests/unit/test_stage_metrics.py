"""What the stages count, where a rule or an objective is made of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from aiokafka.errors import IllegalStateError
from faust.exceptions import ConsumerNotStarted
from faust.types import TP
from structlog.testing import capture_logs

from agents.collector import Collector
from agents.stage import Stage
from app.alerts.engine import AlertEngine
from app.candles.known_minutes import KnownMinutes
from app.candles.open_gaps import OpenGaps
from app.clock import ManualClock
from app.process.faust_worker.worker import Worker
from app.telemetry import alert_metrics
from app.wire.frames import FrameInfo
from tests.support.candle_batches import Candle, batch_of
from tests.unit.test_stage_restore import REGISTRY, StoredValues, edges

TOPIC = TP("candles", 0)


def value(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


def collector() -> Collector:
    return Collector(StoredValues(), None, 1_000, edges())


@pytest.mark.parametrize(
    ("minutes", "missing"),
    [
        ([1, 5], 3),
        ([1, 5, 2, 3, 4], 0),
        ([1, 5, 3, 3], 2),
        ([1, 2, 3], 0),
        # history from before the first candle fills nothing, and hides no gap
        ([10, 13, 1, 2, 3, 4], 2),
    ],
)
def test_minutes_missing_are_the_gaps_less_those_that_were_filled(minutes: list[int], missing: int):
    names = (
        "screener_gaps_total",
        "data_collector_filled_minutes_total",
        "data_collector_closed_minutes_total",
    )
    before = {name: value(name) for name in names}
    stage, known, gaps_now = collector(), KnownMinutes(), OpenGaps()
    for minute in minutes:
        stage._count(known.accept(batch_of([Candle("AUSDT", minute)])), gaps_now)
    gaps, filled, closed = (value(name) - before[name] for name in names)
    assert gaps - filled == missing == len(gaps_now)
    assert closed == len(set(minutes))


def test_a_corrected_minute_is_no_new_one():
    before = value("data_collector_closed_minutes_total")
    stage, known = collector(), KnownMinutes()
    for price in (10.0, 11.0):
        stage._count(known.accept(batch_of([Candle("AUSDT", 1, price)])), OpenGaps())
    assert value("data_collector_closed_minutes_total") - before == 1


def test_the_latency_of_an_alert_counts_from_the_first_sight_of_its_own_candle():
    clock = ManualClock(10_000)
    engine = SimpleNamespace(_clock=clock, _metrics=alert_metrics(REGISTRY))
    batch = SimpleNamespace(ingest_ts_ms=[9_950, 4_000])
    name = "alert_engine_alert_latency_seconds"
    before = value(f"{name}_sum"), value(f"{name}_count")
    AlertEngine._note_latencies(engine, [SimpleNamespace(row=0), SimpleNamespace(row=1)], batch)
    assert value(f"{name}_sum") - before[0] == pytest.approx(0.05 + 6.0)
    assert value(f"{name}_count") - before[1] == 2


class Consumer:
    def __init__(self, end: int | None, committed: dict[TP, int]) -> None:
        self.end = end
        self._committed_offset = committed

    def highwater(self, _: TP) -> int | None:
        if self.end is not None and self.end < 0:
            raise IllegalStateError("no assignment")
        return self.end


@pytest.mark.parametrize(
    ("end", "done", "committed", "behind"),
    [
        (100, {0: 90}, {}, 10),
        (100, {}, {TOPIC: 40}, 60),
        (100, {0: 90}, {TOPIC: 40}, 10),
        (100, {0: 101}, {}, 0),
        (None, {0: 90}, {}, None),
        (100, {}, {}, None),
        (-1, {0: 90}, {}, None),
    ],
)
def test_lag_is_what_is_not_done_with_since_the_assignment_or_else_since_the_commit(
    end: int | None, done: dict[int, int], committed: dict[TP, int], behind: int | None
):
    worker = SimpleNamespace(consumer=Consumer(end, committed))
    assert Worker._records_behind(worker, TOPIC, SimpleNamespace(positions=done)) == behind


@pytest.mark.parametrize("error", [ConsumerNotStarted(), IllegalStateError(), AssertionError()])
def test_before_the_consumer_has_started_and_in_a_rebalance_there_is_no_lag_to_tell(error: Exception):
    class Starting:
        def assignment(self) -> set[TP]:
            raise error

    assert Worker._partitions_of(SimpleNamespace(consumer=Starting()), "candles") == []


def test_the_lag_of_a_topic_is_that_of_its_partitions_alone():
    worker = SimpleNamespace(consumer=SimpleNamespace(assignment=lambda: {TOPIC, TP("alerts", 0)}))
    assert Worker._partitions_of(worker, "candles") == [TOPIC]


class Echo(Stage):
    name = "echo"

    async def handle(self, partition: int, data: bytes) -> None:
        self.follow(FrameInfo({}, data.decode()))
        self.log.warning("within")
        if partition:
            raise RuntimeError("boom")

    def forget(self, partition: int) -> None: ...

    def restore(self, partitions: Any) -> None: ...


async def test_events_of_a_frame_carry_its_id_and_those_after_it_do_not():
    stage = Echo(StoredValues(), edges())
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        await stage._process(0, b"first")
        with pytest.raises(RuntimeError):
            await stage._process(1, b"second")
        stage.log.warning("without")
    assert [(event["event"], event.get("frame_id")) for event in logs if event["event"] != "frame_done"] == [
        ("within", "first"), ("within", "second"), ("without", None),
    ]  # fmt: skip
