"""Waiting for a condition, never for a time."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    condition: Callable[[], T | Awaitable[T]],
    within_s: float = 20.0,
    *,
    of_work: bool = False,
    pause_max_s: float = 0.2,
) -> T:
    """Return the first true value of `condition`, tried every few ms; fail with its last value after `within_s`.

    The pauses grow to `pause_max_s`, so that conditions that query a server leave the CPU to the awaited work.

    of_work: the seconds limit CPU work, such as the start of processes, not a promised delay. They pass more slowly
    while more tasks need processors than there are.
    """
    left_s, before_s = within_s, time.monotonic()
    pause_s = 0.01
    while True:
        found = condition()
        value = await found if inspect.isawaitable(found) else found
        if value:
            return value  # type: ignore[return-value]
        now_s = time.monotonic()
        left_s -= (now_s - before_s) / (_slowdown() if of_work else 1.0)
        before_s = now_s
        if left_s < 0:
            raise AssertionError(f"not within {within_s} s; last value: {value!r}")
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.2, pause_max_s)


def _slowdown() -> float:
    """Return how many times slower a computation is at present than on an idle machine."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
