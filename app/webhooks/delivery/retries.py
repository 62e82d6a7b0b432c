"""When a message that failed is retried, and when it is given up.

| attempt | waits after the one before | since the first |
|---|---|---|
| 1 | at once | 0 |
| 2 | 5 s | 5 s |
| 3 | 5 min | 5 min |
| 4 | 30 min | 35 min |
| 5 | 2 h | 2 h 35 min |
| 6 | 5 h | 7 h 35 min |
| 7 | 10 h | 17 h 35 min |
| 8 | 14 h | 31 h 35 min |
| 9 | 20 h | 51 h 35 min |
| 10 | 24 h | 75 h 35 min |

Every wait is up to a tenth longer, at random, so that a receiver that comes back does not get all retries at once.
"""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime
from typing import Final

_S: Final = 1_000
_MIN: Final = 60 * _S
_H: Final = 60 * _MIN
WAITS_MS: Final = (0, 5 * _S, 5 * _MIN, 30 * _MIN, 2 * _H, 5 * _H, 10 * _H, 14 * _H, 20 * _H, 24 * _H)
"""The wait before each attempt, from the attempt before it."""
LONGEST_RETRY_AFTER_MS: Final = 24 * _H
_JITTER: Final = 0.1
PACED_MAX_AGE_MS: Final = sum(WAITS_MS)
"""Until a message is this old, a request to wait uses up none of its attempts."""
_SHORTEST_PACE_MS: Final = 250
_PACE_DOUBLINGS: Final = 8


def next_attempt_ms(
    attempts: int, now_ms: int, retry_after_ms: int | None = None, random: float = 0.0
) -> int | None:
    """Return when to retry after `attempts` failed attempts, the last at `now_ms`; None when the message is given up.

    retry_after_ms: how long the receiver asked to wait; it makes the wait longer, never shorter, and counts up to
    a day. random: in [0, 1), how much of the jitter is added.
    """
    if attempts >= len(WAITS_MS):
        return None
    wait_ms = WAITS_MS[attempts] * (1 + _JITTER * random)
    return now_ms + round(max(wait_ms, min(retry_after_ms or 0, LONGEST_RETRY_AFTER_MS)))


def pace_ms(retry_after_ms: int, paced: int) -> int:
    """Return how long a target that asked for `retry_after_ms` is paused: longer, up to 64 s, the more rounds in a row
    (`paced`) it has asked to wait and accepted no message."""
    return max(retry_after_ms, _SHORTEST_PACE_MS << min(paced, _PACE_DOUBLINGS))


def retry_after_ms(header: str | None, now_ms: int) -> int | None:
    """Return the wait in milliseconds from now on that a Retry-After header (seconds, with or without decimals, or an
    HTTP date) asks for; None without one or if invalid."""
    if header is None or len(header) > 64:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment_ms = parsedate_to_datetime(header).timestamp() * 1000
        except (ValueError, TypeError, OverflowError):
            return None
        return max(0, min(round(moment_ms - now_ms), LONGEST_RETRY_AFTER_MS))
    if math.isnan(seconds) or seconds < 0:
        return None
    return round(min(seconds * 1000, LONGEST_RETRY_AFTER_MS))
