"""Bad messages and poison records among good candles: dead letters with reasons, and nothing else changes."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nats
import numpy as np
import orjson
import pytest

from app.candles.batch import MINUTE_MS, CandleBatch
from app.clock import SystemClock
from app.local.servers.embedded import EmbeddedStack
from app.replay.replay import ReplayResult
from app.settings import Settings
from app.wire.frames import encode_candles, encode_metrics
from app.wire.kafka import kafka_producer
from app.wire.topics import Topics
from tests.oracle.alerts import Alert
from tests.support.database import candles, metrics
from tests.support.replays import (
    Disturbed,
    Stored,
    alert_keys,
    dead_letters,
    expected_alerts,
    market_slice,
    replay_settings,
    stored,
)
from tests.support.servers import settings_for

GOOD_MINUTE_MS = 1_618_617_600_000
GOOD: dict[str, Any] = {
    "symbol": "BADUSDT", "open_time": GOOD_MINUTE_MS, "close_time": GOOD_MINUTE_MS + MINUTE_MS - 1,
    "open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 5.0, "quote_volume": 55.0,
    "number_of_trades": 3,
}  # fmt: skip
POISON = b"\x00 this is no frame"
STRANGE = replace(
    candles(["BADUSDT", "NO SYMBOL"], 1, GOOD_MINUTE_MS), event_ts_ms=np.array([-(10**15), GOOD_MINUTE_MS])
)
"""What no stage of ours writes: a row with an impossible time, and one of what is no symbol."""


def spoiled(**fields: Any) -> bytes:
    return orjson.dumps(GOOD | fields)


def without(name: str) -> bytes:
    return orjson.dumps({key: value for key, value in GOOD.items() if key != name})


BAD_MESSAGES: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"{half a candle", "not_json"),
    "not an object": (b"17", "bad_type"),
    "a missing field": (without("close"), "missing_field"),
    "NaN": (spoiled(close="NaN"), "not_finite"),
    "infinite": (spoiled(high="Infinity"), "not_finite"),
    "a negative volume": (spoiled(volume=-1.0), "negative"),
    "a price of zero": (spoiled(low=0.0), "price_not_positive"),
    "high below low": (spoiled(high=8.0), "high_low"),
    "a misaligned time": (spoiled(open_time=GOOD_MINUTE_MS + 1), "misaligned"),
    "a time without offset": (spoiled(open_time="2021-04-17T00:00:00"), "bad_time"),
    "unknown characters in the symbol": (spoiled(symbol="BAD USDT\u20ac"), "bad_symbol"),
    "a flag as text": (spoiled(closed="yes"), "bad_type"),
    "an event of the year -285,000,000": (spoiled(event_time=-9_000_000_000_000_000), "bad_time"),
    "an event of the year 1": (spoiled(event_time="0001-01-01T00:00:00Z"), "bad_time"),
    "a minute of 1970": (spoiled(open_time=60_000, event_time=GOOD_MINUTE_MS), "bad_time"),
    "microseconds": (spoiled(open_time=GOOD_MINUTE_MS * 1000), "bad_time"),
    "half a million numbers": (b"[" + b"1," * 500_000 + b"1]", "bad_type"),
    "10 MB": (spoiled(note="x" * 10_000_000), "too_large"),
}


def future_candle() -> bytes:
    minute_ms = SystemClock().now_ms() // MINUTE_MS * MINUTE_MS
    return spoiled(open_time=minute_ms + 60 * MINUTE_MS)


@dataclass(frozen=True)
class Result:
    outcome: ReplayResult
    stored: Stored
    letters: list[dict[str, Any]]
    candles: CandleBatch


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad-input")


@pytest.fixture(scope="module")
def result(stack: EmbeddedStack, logs: Path) -> Result:
    """A replay in whose middle all of it arrives."""
    return asyncio.run(replay_with_bad_input(replay_settings(settings_for(stack.urls)), logs))


async def replay_with_bad_input(settings: Settings, logs: Path) -> Result:
    candles = market_slice()
    disturbed = Disturbed(settings, candles, logs)

    async def send_bad_input() -> None:
        await disturbed.until_stored(0.2)
        client = await nats.connect(settings.server_urls().nats)
        subject = settings.name("candles.1m.BADUSDT")
        for message, _ in BAD_MESSAGES.values():
            await client.jetstream().publish(subject, message)
        await client.jetstream().publish(subject, future_candle())
        await client.close()
        await poison_topics(settings)

    outcome = await disturbed.run(send_bad_input)
    return Result(outcome, await stored(settings), await dead_letters(settings), candles)


async def poison_topics(settings: Settings) -> None:
    topics = Topics.of(settings.names())
    async with kafka_producer(settings.kafka()) as producer:
        for topic in (topics.ingress, topics.candles, topics.metrics, topics.alerts):
            await producer.send_and_wait(topic, POISON, partition=0)
        for topic, frame in (
            (topics.candles, encode_candles(STRANGE)),
            (topics.metrics, encode_metrics(metrics(STRANGE))),
        ):
            await producer.send_and_wait(topic, frame, partition=0)


def test_the_alerts_are_those_of_the_good_candles(result: Result) -> None:
    expected: set[Alert] = expected_alerts(result.candles)
    assert len(expected) > 400
    assert set(alert_keys(result.outcome.alerts)) == expected
    assert Counter(result.stored.alert_keys) == Counter(expected)


def test_only_good_candles_are_stored(result: Result) -> None:
    assert result.stored.candles == len(result.candles)


def test_no_process_ended(result: Result) -> None:
    assert result.outcome.restarts == 0


@pytest.mark.parametrize("fault", BAD_MESSAGES)
def test_a_bad_message_becomes_a_dead_letter_with_its_reason_and_its_bytes(
    fault: str, result: Result
) -> None:
    message, reason = BAD_MESSAGES[fault]
    originals = [
        letter["reason"]
        for letter in result.letters
        if letter["stage"] == "bridge"
        and letter["original_bytes"] == len(message)
        and message.startswith(base64.b64decode(letter["original"]))
    ]
    assert originals == [reason]


def test_a_candle_of_the_future_becomes_a_dead_letter(result: Result) -> None:
    assert [letter["stage"] for letter in result.letters if letter["reason"] == "future"] == ["bridge"]


def test_a_poison_record_becomes_a_dead_letter_of_every_stage_that_reads_its_topic(result: Result) -> None:
    original = base64.b64encode(POISON).decode()
    stages = Counter(letter["stage"] for letter in result.letters if letter["original"] == original)
    assert stages == Counter(
        ["collector", "calculator", "sinks-candles", "alerts", "sinks-metrics", "sinks-alerts"]
    )


def test_rows_that_cannot_be_are_one_dead_letter_of_every_stage_that_reads_them(result: Result) -> None:
    letters = [one for one in result.letters if one["reasons"] == {"bad_time": 1, "bad_symbol": 1}]
    assert sorted(one["stage"] for one in letters) == [
        "alerts",
        "calculator",
        "sinks-candles",
        "sinks-metrics",
    ]
