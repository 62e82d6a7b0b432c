"""Going on after a server was away: retries that are paced, jittered, and end when the process is to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

log = structlog.get_logger("database")

T = TypeVar("T")

OUTAGES = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    RedisConnectionError,
    RedisTimeoutError,
)
"""What passes by waiting: a server that is away, starting, full, failing over, or too slow this time."""

_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0


async def until_done(
    action: Callable[[], Awaitable[T]], stop: asyncio.Event, on_outage: Callable[[BaseException], None]
) -> T:
    """The result of `action`, repeated through outages for as long as they last or until `stop`.

    `on_outage` hears of every failed attempt. Raises the outage's error once `stop` is set, and any other
    error at once. Waits between attempts grow to 5 s, with jitter.
    """

    def report(state: RetryCallState) -> None:
        if state.outcome is not None and (error := state.outcome.exception()) is not None:
            on_outage(error)

    async def sleep(seconds: float) -> None:
        try:
            await asyncio.wait_for(stop.wait(), seconds)
        except TimeoutError:
            return

    retrying = AsyncRetrying(
        retry=retry_if_exception_type(OUTAGES),
        wait=wait_random_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S),
        stop=lambda _state: stop.is_set(),
        after=report,
        sleep=sleep,
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            return await action()
    raise AssertionError("a retry ends by its result or its error")
