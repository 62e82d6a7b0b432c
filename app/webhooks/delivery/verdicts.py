"""Consequences of an answer for the message and its target. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.webhooks.delivery.post import Answer
from app.webhooks.delivery.retries import PACED_MAX_AGE_MS, next_attempt_ms, pace_ms


@dataclass(frozen=True, slots=True)
class Past:
    """A message before the judged attempt: attempts used up, its age now, and `paced` of its target."""

    attempts: int = 0
    age_ms: int = 0
    paced: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`due_ms`: when a pending message is retried. `hold_until_ms`: no message goes to the target before.

    paced: the message was not judged, the target only asked to wait, for this many rounds; no attempt is used up.
    disable: why the target is disabled; `exhausted` is only meant if no other message got through meanwhile.
    """

    status: Literal["delivered", "pending", "dead"]
    due_ms: int | None = None
    hold_until_ms: int | None = None
    paced: int | None = None
    disable: Literal["gone", "exhausted"] | None = None


def verdict(answer: Answer, past: Past, now_ms: int, random: float) -> Verdict:
    """Return the verdict on an attempt that `answer` ended at `now_ms`; `random` in [0, 1) jitters.

    410 says that the receiver wants no more messages. A receiver that answers 429 or 503 with Retry-After gets no
    message at all for that time, not only the one it answered; that message has not failed.
    """
    if answer.delivered:
        return Verdict("delivered")
    if answer.outcome == "gone":
        return Verdict("dead", disable="gone")
    hold_until_ms = None
    if answer.retry_after_ms is not None and answer.status in (429, 503):
        hold_until_ms = now_ms + pace_ms(answer.retry_after_ms, past.paced)
        if past.age_ms < PACED_MAX_AGE_MS:
            return Verdict("pending", hold_until_ms, hold_until_ms, paced=past.paced + 1)
    due_ms = next_attempt_ms(past.attempts + 1, now_ms, answer.retry_after_ms, random)
    if due_ms is None:
        return Verdict("dead", hold_until_ms=hold_until_ms, disable="exhausted")
    return Verdict("pending", due_ms, hold_until_ms)
