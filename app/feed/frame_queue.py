"""Frames of all sockets on their way to the pump: bounded, because the sockets wait for room.

A socket that waits is not read; its buffers fill up, and the exchange cuts it in the end. That happens only where this
machine is too slow for the market. The missed minutes are owed, and come over REST.
"""

from __future__ import annotations

import asyncio
from typing import Final

MOST_FRAMES: Final = 8_000
"""Sockets wait from this number on; each may add a few more before it checks."""


class FrameQueue:
    def __init__(self, most_frames: int = MOST_FRAMES) -> None:
        self._most_frames = most_frames
        self._frames: list[bytes] = []
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._arrived.set()
        if len(self._frames) >= self._most_frames:
            self._room.clear()

    async def room(self) -> None:
        """Let other tasks run, then wait until more frames may be added."""
        await asyncio.sleep(0)
        await self._room.wait()

    async def wait(self) -> None:
        """Wait until there is a frame."""
        await self._arrived.wait()

    def take(self, most: int) -> list[bytes]:
        """Remove and return the oldest frames."""
        taken, self._frames = self._frames[:most], self._frames[most:]
        if not self._frames:
            self._arrived.clear()
        if len(self._frames) < self._most_frames:
            self._room.set()
        return taken
