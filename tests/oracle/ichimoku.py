"""The two Ichimoku rules by brute force: the closed minutes that cross the cloud of the 15m bars.

A bar is 15 minutes by the clock, whole or absent. The conversion and base of a bar are the middle of the highest high
and lowest low of the last 9 and 26 bars up to it. Span A is their mean, span B the middle of the last 52. The cloud at
a bar is the one computed 26 bars earlier, null if any of its bars is absent. A crossing compares a minute with the one
before it, each against its own cloud.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MINUTE_MS = 60_000
BAR_MINUTES = 15
DISPLACEMENT = 26

Bars = dict[int, tuple[float, float]]
"""Bar number -> (high, low)."""


def crossings(
    open_time_ms: NDArray[np.int64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
) -> dict[str, list[int]]:
    """Return rule_type -> open times (UTC ms) of the minutes of one symbol at which its condition is true."""
    minutes = (open_time_ms // MINUTE_MS).tolist()
    close_of = dict(zip(minutes, close.tolist(), strict=True))
    bars = _whole_bars(minutes, high.tolist(), low.tolist())
    clouds: dict[int, tuple[float, float] | None] = {}

    def position(minute: int) -> tuple[float, float, float] | None:
        """Return (close, upper edge, lower edge) at a minute; None unless the 15 minutes up to it and its cloud are
        whole."""
        if any(m not in close_of for m in range(minute - BAR_MINUTES + 1, minute + 1)):
            return None
        bar = minute // BAR_MINUTES
        if bar not in clouds:
            clouds[bar] = _cloud(bars, bar - DISPLACEMENT)
        cloud = clouds[bar]
        return None if cloud is None else (close_of[minute], max(cloud), min(cloud))

    found: dict[str, list[int]] = {"ichimoku_bull": [], "ichimoku_bear": []}
    for minute in sorted(close_of):
        now, before = position(minute), position(minute - 1)
        if now is None or before is None:
            continue
        if now[0] > now[1] and before[0] <= before[1]:
            found["ichimoku_bull"].append(minute * MINUTE_MS)
        if now[0] < now[2] and before[0] >= before[2]:
            found["ichimoku_bear"].append(minute * MINUTE_MS)
    return found


def _whole_bars(minutes: list[int], high: list[float], low: list[float]) -> Bars:
    members: dict[int, list[tuple[float, float]]] = {}
    for minute, top, bottom in zip(minutes, high, low, strict=True):
        members.setdefault(minute // BAR_MINUTES, []).append((top, bottom))
    return {
        bar: (max(top for top, _ in rows), min(bottom for _, bottom in rows))
        for bar, rows in members.items()
        if len(rows) == BAR_MINUTES
    }


def _cloud(bars: Bars, at: int) -> tuple[float, float] | None:
    """Return (span A, span B) computed at a bar; None if one of its 52 bars is absent."""
    if any(bar not in bars for bar in range(at - 51, at + 1)):
        return None
    return (_middle(bars, at, 9) + _middle(bars, at, 26)) / 2, _middle(bars, at, 52)


def _middle(bars: Bars, at: int, length: int) -> float:
    window = [bars[bar] for bar in range(at - length + 1, at + 1)]
    return (max(top for top, _ in window) + min(bottom for _, bottom in window)) / 2
