"""What follows from an answer: for the message, and for its target. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.webhooks.post import Answer
from app.webhooks.retries import next_attempt_ms


@dataclass(frozen=True, slots=True)
class Verdict:
    """`due_ms`: when a pending message is tried again. `hold_until_ms`: nothing goes to the target before.

    disable: why the target gets nothing any more; `exhausted` is only meant if nothing else got through meanwhile.
    """

    status: Literal["delivered", "pending", "dead"]
    due_ms: int | None = None
    hold_until_ms: int | None = None
    disable: Literal["gone", "exhausted"] | None = None


def verdict(answer: Answer, attempts: int, now_ms: int, random: float) -> Verdict:
    """After `attempts` attempts in all, of which `answer` ended the last at `now_ms`; `random` in [0, 1) jitters.

    410 says that the receiver wants nothing any more. Whoever answers 429 or 503 with Retry-After is left alone for
    so long with everything, not only with the message it answered.
    """
    if answer.delivered:
        return Verdict("delivered")
    if answer.outcome == "gone":
        return Verdict("dead", disable="gone")
    due_ms = next_attempt_ms(attempts, now_ms, answer.retry_after_ms, random)
    hold_until_ms = None
    if answer.retry_after_ms is not None and answer.status in (429, 503):
        hold_until_ms = now_ms + answer.retry_after_ms
    if due_ms is None:
        return Verdict("dead", hold_until_ms=hold_until_ms, disable="exhausted")
    return Verdict("pending", due_ms, hold_until_ms)
