"""Frames of all sockets on their way to the pump: bounded, and what is lost at the bound comes again.

The pump takes frames as fast as this process can read them, so that the bound is met only when the machine is
too slow for the market. Then the oldest frames go, uncounted closed candles among them: those are owed, and come
again over REST.
"""

from __future__ import annotations

import asyncio
from typing import Final

from app.telemetry import feed_metrics

MOST_FRAMES: Final = 50_000
"""Some 15 MB."""


class Inbox:
    def __init__(self, most_frames: int = MOST_FRAMES) -> None:
        self._most_frames = most_frames
        self._frames: list[bytes] = []
        self._arrived = asyncio.Event()

    def add(self, frame: bytes) -> None:
        if len(self._frames) >= self._most_frames:
            half = len(self._frames) // 2
            feed_metrics().dropped.inc(half)
            del self._frames[:half]
        self._frames.append(frame)
        self._arrived.set()

    async def wait(self) -> None:
        """Returns when there is a frame."""
        await self._arrived.wait()

    def take(self, most: int) -> list[bytes]:
        """The oldest frames, out of the box."""
        taken, self._frames = self._frames[:most], self._frames[most:]
        if not self._frames:
            self._arrived.clear()
        return taken
