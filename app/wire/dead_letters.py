"""Dead letters: unusable records, with reason and original bytes, on a topic of their own."""

from __future__ import annotations

import base64
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson
import structlog

from app.candles.validity import Reason
from app.clock import Clock
from app.telemetry import PipelineMetrics
from app.times import utc

ORIGINAL_MAX_BYTES = 1_048_576
"""How much of a message is kept unless said otherwise: far below the record limit of the topic (16 MiB)."""

Send = Callable[[bytes], Awaitable[object]]
"""Delivers one record to the dead-letters topic; returns when the broker has it."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`source` says where the message came from: a NATS subject, or `topic/partition/offset`.

    counts: reason -> how many candles or rows are rejected for it; empty for a letter that counts once, for `reason`.
    """

    reason: str
    message: str
    source: str
    original: bytes
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def reasons(self) -> Mapping[str, int]:
        return self.counts or {self.reason: 1}

    def encode(self, stage: str, at_ms: int, original_max_bytes: int = ORIGINAL_MAX_BYTES) -> bytes:
        return orjson.dumps(
            {
                "stage": stage,
                "reason": self.reason,
                "reasons": {str(reason): count for reason, count in self.reasons.items()},
                "message": self.message,
                "source": self.source,
                "timestamp": utc(at_ms),
                "original": base64.b64encode(self.original[:original_max_bytes]).decode(),
                "original_bytes": len(self.original),
                "truncated": len(self.original) > original_max_bytes,
            },
            option=orjson.OPT_UTC_Z,
        )


_SUSPICIOUS: Final = 20
_WITHIN_S: Final = 60.0
log = structlog.get_logger("dead-letters")


class _ClockSuspicion:
    """Logs, at most once a minute, that many candles from the future suggest a clock that is behind."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._refused = 0
        self._since_s = time.monotonic()

    def note(self, refused: int) -> None:
        now_s = time.monotonic()
        if now_s - self._since_s > _WITHIN_S:
            self._refused, self._since_s = 0, now_s
        before, self._refused = self._refused, self._refused + refused
        if before < _SUSPICIOUS <= self._refused:
            log.error(
                "clock_suspected",
                stage=self._stage,
                refused=self._refused,
                reason=Reason.FUTURE,
                advice="the clock of this machine may be behind, or the publisher's ahead: compare both (NTP)",
            )


class DeadLetters:
    """Sends and counts the dead letters of one stage."""

    def __init__(
        self,
        stage: str,
        send: Send,
        clock: Clock,
        metrics: PipelineMetrics,
        original_max_bytes: int = ORIGINAL_MAX_BYTES,
    ) -> None:
        """original_max_bytes: how much of each message is kept."""
        self._original_max_bytes = original_max_bytes
        self._stage = stage
        self._send = send
        self._clock = clock
        self._metrics = metrics
        self._suspicion = _ClockSuspicion(stage)

    async def send(self, letter: DeadLetter) -> None:
        if Reason.FUTURE in letter.reasons:
            self._suspicion.note(letter.reasons[Reason.FUTURE])
        for reason, count in letter.reasons.items():
            self._metrics.dead_letters.labels(stage=self._stage, reason=reason).inc(count)
        await self._send(letter.encode(self._stage, self._clock.now_ms(), self._original_max_bytes))
