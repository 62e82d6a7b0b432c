"""What a dead letter keeps of the message it stands for."""

from __future__ import annotations

from base64 import b64decode

import orjson
import pytest

from app.clock import ManualClock
from app.telemetry import pipeline_metrics
from app.wire.dead_letters import DeadLetter, DeadLetters
from tests.support.metric_values import UNREAD


@pytest.mark.parametrize("size", [0, 99, 100, 101, 5_000])
async def test_the_original_is_kept_up_to_the_limit_and_its_size_is_told(size: int):
    sent: list[bytes] = []

    async def send(record: bytes) -> None:
        sent.append(record)

    original = (bytes(range(256)) * 20)[:size]
    letters = DeadLetters(
        "bridge", send, ManualClock(1_700_000_040_000), pipeline_metrics(UNREAD), original_max_bytes=100
    )
    await letters.send(DeadLetter("not_json", "not JSON", "candles.1m.X", original))
    [letter] = map(orjson.loads, sent)
    assert b64decode(letter["original"]) == original[:100]
    assert letter["original_bytes"] == size
    assert letter["truncated"] is (size > 100)
    assert letter["timestamp"] == "2023-11-14T22:14:00Z"
