"""Tracing is off, and then nothing of it is there, unless it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from app.clock import ManualClock
from app.errors import SettingsError
from app.process.quarantine import Attempts
from app.sidecar.state import feeds
from app.sidecar.state.latest import LatestMetrics
from app.telemetry import pipeline_metrics, tracing
from app.wire.frames import FrameInfo, decode_candles, encode_candles, encode_metrics
from tests.support.database import candles, metrics
from tests.support.metric_values import UNREAD


def test_without_the_setting_no_process_loads_what_sends_traces():
    code = (
        "import sys, agents.stage, app.pipeline\n"
        "from app.telemetry.tracing import configure_tracing, end_tracing, recorder\n"
        "configure_tracing(None, 1.0, 'all')\n"
        "assert recorder() is None\n"
        "end_tracing()\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.exporter')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_setting_without_the_extra_is_refused_with_what_to_install(monkeypatch):
    def missing(*_: object) -> None:
        raise ImportError("No module named 'opentelemetry'")

    monkeypatch.setattr(tracing, "_otlp", missing)
    with pytest.raises(SettingsError, match=r"screener\[tracing\]"):
        tracing.configure_tracing("http://127.0.0.1:1/v1/traces", 1.0, "all")
    assert tracing.recorder() is None


def test_a_frame_keeps_its_id_and_one_of_an_older_bridge_has_none():
    batch = candles(["AUSDT"], 1)
    assert (
        decode_candles(encode_candles(batch, FrameInfo({"bridge": 1_700_000_000_000}, "ab" * 16)))[1].frame_id
        == "ab" * 16
    )
    assert decode_candles(encode_candles(batch, FrameInfo({"bridge": 1_700_000_000_000})))[1].frame_id == ""


def test_the_sidecar_records_a_span_for_every_frame_that_it_takes(monkeypatch):
    spans: list[tuple[str, str, int]] = []

    class Spans:
        def record(self, stage: str, frame_id: str, *, end_ms: int, duration_s: float) -> None:
            assert duration_s >= 0
            spans.append((stage, frame_id, end_ms))

    monkeypatch.setattr(feeds, "recorder", lambda: Spans())
    feed = feeds.MetricsFeed(
        LatestMetrics(),
        (),
        ManualClock(77),
        pipeline_metrics(CollectorRegistry()),
        Attempts(Path(os.devnull), "sidecar", pipeline_metrics(UNREAD)),
    )
    frame = encode_metrics(
        metrics(candles(["AUSDT"], 1)), FrameInfo({"bridge": 1_700_000_000_000}, "cd" * 16)
    )
    feed.take([SimpleNamespace(value=frame, topic="metrics", partition=0, offset=0, timestamp=0)], True)
    assert spans == [("sidecar", "cd" * 16, 77)]
