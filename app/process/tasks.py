"""Ways to run tasks that lose none: restart them after errors, end them and wait, or run them to completion."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import structlog
from prometheus_client import REGISTRY, CollectorRegistry

from app.telemetry import runtime_metrics
from app.wire.retry import Backoff

_BACKOFF: Final = Backoff(0.2, 30.0)
_CALM_S: Final = 60.0
"""A task that ran for this long is restarted after the shortest wait."""
_CANCELLED_AGAIN_S: Final = 3.0
"""The time in which a task closes its resources; a second cancellation would interrupt that."""

log = structlog.get_logger("tasks")
T = TypeVar("T")


async def kept_running(
    name: str, run: Callable[[], Awaitable[None]], registry: CollectorRegistry = REGISTRY
) -> None:
    """Call `run` until it returns or is cancelled; when it raises, call it again after a wait that doubles, with
    jitter."""
    failures = runtime_metrics(registry).task_failures.labels(task=name)
    loop = asyncio.get_running_loop()
    failures_in_a_row = 0
    while True:
        began_s = loop.time()
        try:
            await run()
            return
        except Exception:
            if loop.time() - began_s > _CALM_S:
                failures_in_a_row = 0
            failures_in_a_row += 1
            wait_s = _BACKOFF.wait_s(failures_in_a_row)
            failures.inc()
            log.exception("task_failed", task=name, retry_in_s=round(wait_s, 2))
        await asyncio.sleep(wait_s)


async def together(*coroutines: Coroutine[Any, Any, T]) -> list[T]:
    """Run coroutines at the same time and return their results in order. Raises the first error.

    Unlike with `asyncio.gather`, which returns as soon as one was cancelled, all have ended when this returns.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await ended(*tasks)


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and return once all have ended, in whatever way; results and errors stay with them.

    Python 3.11 loses a cancellation: `asyncio.wait_for` drops one that comes together with an answer, and client
    libraries wait with it. So a task that has not ended after a while is cancelled again.
    """
    pending = {task for task in tasks if not task.done()}
    for task in pending:
        if not task.cancelling():
            task.cancel()
    while pending:
        _, pending = await asyncio.wait(pending, timeout=_CANCELLED_AGAIN_S)
        for task in pending:
            task.cancel()
    for task in tasks:
        if not task.cancelled():
            # else asyncio logs an error that nobody asked for
            task.exception()


async def to_its_end(
    coroutine: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[object]] | None = None
) -> T:
    """Return the result of `coroutine`, which leaves tasks or connections behind when cancelled while it opens them.

    A cancellation waits until `coroutine` ends, undoes its result, and then takes effect. So it must end by itself.
    """
    task = asyncio.create_task(coroutine)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if task.exception() is None and undo is not None:
            await undo(task.result())
        raise
