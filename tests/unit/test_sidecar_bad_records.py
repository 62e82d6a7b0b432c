"""Records of a batch are noted together, and a bad one takes nothing from the others."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from aiokafka import ConsumerRecord

from app.errors import BadInput
from app.process.quarantine import ENDS, Attempts
from app.sidecar.state.feeds import BadRecords
from app.telemetry import pipeline_metrics
from tests.support.metric_values import UNREAD, value_of

METRICS = pipeline_metrics(UNREAD)


def record(offset: int) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord("alerts", 0, offset, 1_000, 0, None, b"%d" % offset, None, 0, 1, ())


RECORDS = [record(offset) for offset in range(5, 9)]


def opened(data_dir: Path) -> tuple[BadRecords, Attempts]:
    attempts = Attempts(data_dir, "sidecar", METRICS)
    attempts.open()
    return BadRecords("sidecar", METRICS, attempts), attempts


def number(one: Any) -> int:
    return int(one.value)


def test_a_record_that_raises_leaves_the_others(tmp_path: Path):
    def use(one: Any) -> int:
        if one.offset == 6:
            raise BadInput("odd", "not so")
        if one.offset == 7:
            raise ZeroDivisionError
        return number(one)

    counts = [METRICS.dead_letters.labels("sidecar", reason) for reason in ("odd", "failed")]
    before = [value_of(count) for count in counts]
    assert opened(tmp_path)[0].each(RECORDS, use) == [5, None, None, 8]
    assert [value_of(count) for count in counts] == [one + 1 for one in before]


def test_the_record_that_ends_the_process_is_found_in_its_batch_and_left_out(tmp_path: Path):
    def use(one: Any) -> int:
        if one.offset == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return number(one)

    for _ in range(ENDS):
        child = os.fork()
        if not child:
            opened(tmp_path)[0].each(RECORDS, use)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert opened(tmp_path)[0].each(RECORDS, use) == [5, 6, None, 8]
