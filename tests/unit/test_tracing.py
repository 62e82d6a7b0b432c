"""Tracing is off, and then nothing of it is there, unless it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app import tracing
from app.errors import SettingsError
from app.frames import FrameInfo, decode_candles, encode_candles
from app.settings import Settings
from tests.support.database import candles


def test_without_the_setting_no_process_loads_what_sends_traces():
    code = (
        "import sys, agents.stage, app.pipeline\n"
        "from app.settings import Settings\n"
        "from app.tracing import configure_tracing, end_tracing, recorder\n"
        "configure_tracing(Settings.load({}), 'all')\n"
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
        tracing.configure_tracing(
            Settings.load({"SCREENER_TRACE_URL": "http://127.0.0.1:1/v1/traces"}), "all"
        )
    assert tracing.recorder() is None


def test_a_frame_keeps_its_id_and_one_of_an_older_bridge_has_none():
    batch = candles(["AUSDT"], 1)
    assert decode_candles(encode_candles(batch, FrameInfo({"bridge": 5}, "ab" * 16)))[1].frame_id == "ab" * 16
    assert decode_candles(encode_candles(batch, FrameInfo({"bridge": 5})))[1].frame_id == ""
