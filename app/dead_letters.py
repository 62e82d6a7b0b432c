"""Dead letters: what could not be used, with its reason and its original bytes, on a topic of its own."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from app.clock import Clock
from app.telemetry import pipeline_metrics

ORIGINAL_MAX_BYTES = 1_048_576
"""How much of a message is kept unless said otherwise: far below the record limit of the topic (16 MiB)."""

Send = Callable[[bytes], Awaitable[object]]
"""Delivers one record to the dead-letters topic; returns when the broker has it."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`source` says where the message came from: a NATS subject, or `topic/partition/offset`."""

    reason: str
    message: str
    source: str
    original: bytes

    def encode(self, stage: str, at_ms: int, original_max_bytes: int = ORIGINAL_MAX_BYTES) -> bytes:
        return orjson.dumps(
            {
                "stage": stage,
                "reason": self.reason,
                "message": self.message,
                "source": self.source,
                "timestamp": datetime.fromtimestamp(at_ms / 1000, UTC),
                "original": base64.b64encode(self.original[:original_max_bytes]).decode(),
                "original_bytes": len(self.original),
                "truncated": len(self.original) > original_max_bytes,
            },
            option=orjson.OPT_UTC_Z,
        )


class DeadLetters:
    """Sends and counts the dead letters of one stage."""

    def __init__(
        self, stage: str, send: Send, clock: Clock, original_max_bytes: int = ORIGINAL_MAX_BYTES
    ) -> None:
        """original_max_bytes: how much of each message is kept."""
        self._original_max_bytes = original_max_bytes
        self._stage = stage
        self._send = send
        self._clock = clock

    async def send(self, letter: DeadLetter) -> None:
        pipeline_metrics().dead_letters.labels(stage=self._stage, reason=letter.reason).inc()
        await self._send(letter.encode(self._stage, self._clock.now_ms(), self._original_max_bytes))
