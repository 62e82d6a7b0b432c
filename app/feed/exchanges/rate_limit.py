"""Staying within an exchange's limits: a weight per minute, and pauses when the exchange asks for one."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

from app.telemetry import FeedMetrics

_MINUTE_S: Final = 60.0
_SHARE: Final = 0.8
"""The share of the limit that we use; the rest is for other programs behind our address."""
_LONGEST_NAP_S: Final = 5.0
"""The longest sleep before looking again: a pause may be shortened meanwhile, and a weight may turn out smaller."""


class RateLimit:
    """Weight of requests per minute of the wall clock, as exchanges count it.

    The weight in their headers counts more than our own sum, since others may use the same address.
    """

    def __init__(
        self, limit_per_minute: int, metrics: FeedMetrics, now_s: Callable[[], float] = time.time
    ) -> None:
        self._metrics = metrics
        self.limit_per_minute = limit_per_minute
        self._now_s = now_s
        self._minute = 0
        self._used = 0
        self._paused_until_s = 0.0

    @property
    def paused_s(self) -> float:
        """Return how long no request may be sent; 0 if one may."""
        return max(0.0, self._paused_until_s - self._now_s())

    async def acquire(self, weight: int) -> None:
        """Wait until a request of that weight may be sent, and count it."""
        while (wait_s := self._wait_s(weight)) > 0:
            # jitter: many that wait for the same moment do not all come in it
            await asyncio.sleep(min(wait_s, _LONGEST_NAP_S) + random.uniform(0, 0.05))  # noqa: S311
        self._metrics.rest_paused.set(0)
        self._used += weight

    def note_used(self, used: int | None) -> None:
        """Note the weight used in this minute, as the exchange says."""
        self._turn_minute()
        if used is not None:
            self._used = max(self._used, used)
        self._metrics.rest_used_weight.set(self._used)

    def pause(self, for_s: float) -> None:
        self._paused_until_s = max(self._paused_until_s, self._now_s() + for_s)
        self._metrics.rest_paused.set(1)

    def _turn_minute(self) -> None:
        minute = int(self._now_s() // _MINUTE_S)
        if minute != self._minute:
            self._minute, self._used = minute, 0

    def _wait_s(self, weight: int) -> float:
        if self.paused_s:
            return self.paused_s
        self._turn_minute()
        budget = max(weight, self.limit_per_minute * _SHARE)
        if self._used + weight <= budget:
            return 0.0
        return _MINUTE_S - self._now_s() % _MINUTE_S
