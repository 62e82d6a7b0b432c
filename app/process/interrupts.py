"""Ctrl-C and SIGTERM: they end a command in good order, whatever it waits for."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from app.errors import Interrupted
from app.process.tasks import ended

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

T = TypeVar("T")


class StopEvent(asyncio.Event):
    """An event that the first signal sets."""

    number: signal.Signals = signal.SIGINT
    """The signal that set it."""

    def come(self, number: signal.Signals) -> None:
        if not self.is_set():
            self.number = number
        self.set()


@contextmanager
def stop_signals() -> Iterator[StopEvent]:
    """Yield an event that SIGINT and SIGTERM set, and do nothing else, while the context lasts.

    Use it within an event loop. Outside of the main thread no signal arrives.
    """
    loop = asyncio.get_running_loop()
    stop = StopEvent()
    numbers = _SIGNALS if threading.current_thread() is threading.main_thread() else ()
    for number in numbers:
        loop.add_signal_handler(number, stop.come, number)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def unless_stopped(stop: StopEvent, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. Raises Interrupted if `stop` is set first, once `work` has ended."""
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await ended(task, stopped)
    if stop.is_set():
        raise Interrupted(stop.number)
    return task.result()


async def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`, which SIGINT and SIGTERM end. Raises Interrupted then."""
    with stop_signals() as stop:
        return await unless_stopped(stop, work)
