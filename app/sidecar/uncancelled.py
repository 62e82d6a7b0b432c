"""Waiting for what must not be cancelled half way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_its_end(
    coroutine: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[object]] | None = None
) -> T:
    """The result of `coroutine`, which leaves tasks or connections behind when cancelled while it opens them.

    A cancellation waits for its end, undoes its result, and goes on from there. So it must end by itself.
    """
    task = asyncio.create_task(coroutine)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if task.exception() is None and undo is not None:
            await undo(task.result())
        raise
