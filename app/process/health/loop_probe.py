"""Whether the event loop turns, and where it stands when it does not."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from app.telemetry import RuntimeMetrics

_EVERY_S: Final = 0.25
_BLOCKED_S: Final = 2.0
"""A loop without a turn for this long is logged, with the stack of its thread."""
STUCK_AFTER_S: Final = 30.0
"""A process whose loop has no turn for this long should be restarted."""

log = structlog.get_logger("health")


class LoopProbe:
    """A task that wakes every quarter of a second and a thread that notices when it does not.

    The same loop serves the page that asks for `turns`: while the loop stands still it does not answer,
    which a probe's time-out counts as a no. The thread logs where the loop stands.
    """

    def __init__(self, metrics: RuntimeMetrics) -> None:
        self._metrics = metrics
        self._turned_s = time.monotonic()
        self._thread_id = threading.get_ident()
        self._ended = threading.Event()

    @property
    def turns(self) -> bool:
        return time.monotonic() - self._turned_s < STUCK_AFTER_S

    async def run(self) -> None:
        """Run until cancelled."""
        self._thread_id = threading.get_ident()
        while True:
            asked_s = time.monotonic()
            await asyncio.sleep(_EVERY_S)
            self._turned_s = time.monotonic()
            self._metrics.loop_lag.observe(max(0.0, self._turned_s - asked_s - _EVERY_S))

    def watch(self) -> None:
        """Run the thread: one log event for each time that the loop is blocked."""
        reported_s = 0.0
        while not self._ended.wait(_EVERY_S):
            turned_s = self._turned_s
            blocked_s = time.monotonic() - turned_s
            if blocked_s > _BLOCKED_S and turned_s != reported_s:
                reported_s = turned_s
                log.warning("event_loop_blocked", blocked_s=round(blocked_s, 2), stack=self._stack())

    def end(self) -> None:
        self._ended.set()

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._thread_id)
        return "".join(traceback.format_stack(frame)) if frame else ""


@asynccontextmanager
async def loop_probe(metrics: RuntimeMetrics) -> AsyncIterator[LoopProbe]:
    """Yield a running probe of the current event loop."""
    probe = LoopProbe(metrics)
    task = asyncio.create_task(probe.run(), name="loop-probe")
    thread = threading.Thread(target=probe.watch, name="loop-probe", daemon=True)
    thread.start()
    try:
        yield probe
    finally:
        probe.end()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(thread.join)
