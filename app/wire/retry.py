"""Retries with capped and jittered backoff, only for faults that time heals, and with a log that stays readable.

An outage is logged when it begins, once a minute while it lasts, and when it is over.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from structlog.typing import FilteringBoundLogger
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

T = TypeVar("T")

SAY_AGAIN_S: Final = 60.0
_QUIET_S: Final = 10.0
"""An outage that comes back sooner than this after its last line gets no new line: a server that is down for one
request and there for the next would fill the log with beginnings and ends."""
_MOST_DOUBLINGS: Final = 30


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after a failure: `first_s`, doubled with each failure in a row up to `longest_s`; at random
    between half of that and all of it, so that many clients that failed at once do not come back at once."""

    first_s: float = 0.2
    longest_s: float = 5.0

    def wait_s(self, failures: int) -> float:
        """failures: in a row, at least 1."""
        doubled_s = self.first_s * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)
        return min(self.longest_s, doubled_s) * random.uniform(0.5, 1.0)  # noqa: S311  # reason: jitter


class OutageLog:
    """The log of one failing operation, for example the writes of a sink; many tasks may share it.

    `event` is the line at the begin and once a minute, a warning with the error, the failures since the begin and
    how long it has lasted. `outage_over` is the line at the end.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        event: str,
        *,
        now_s: Callable[[], float] = time.monotonic,
        **facts: Any,
    ) -> None:
        self._log = log
        self._event = event
        self._now_s = now_s
        self._facts = facts
        self._began_s = 0.0
        self._failures = 0
        self._said_s = float("-inf")
        self._said_began = False

    @property
    def failures(self) -> int:
        """Failures in a row, of all tasks that share the log."""
        return self._failures

    def failed(self, error: BaseException, **facts: Any) -> None:
        now_s = self._now_s()
        if not self._failures:
            self._began_s = now_s
            self._said_began = False
        self._failures += 1
        if now_s - self._said_s < (SAY_AGAIN_S if self._said_began else _QUIET_S):
            return
        self._said_s, self._said_began = now_s, True
        self._log.log(
            logging.WARNING,
            self._event,
            **self._facts,
            error=str(error) or repr(error),
            failures=self._failures,
            for_s=round(now_s - self._began_s, 1),
            **facts,
        )

    def over(self) -> None:
        """End the outage; log only if there was one."""
        if not self._failures:
            return
        failures, self._failures = self._failures, 0
        if self._said_began:
            self._said_s = self._now_s()
            for_s = round(self._said_s - self._began_s, 1)
            self._log.info("outage_over", outage=self._event, **self._facts, failures=failures, for_s=for_s)


async def retried(
    action: Callable[[], Awaitable[T]],
    outage: OutageLog,
    *,
    stop: asyncio.Event | None = None,
    backoff: Backoff = Backoff(),
    heals: Callable[[BaseException], bool] | None = None,
    attempts: int | None = None,
    give_up_s: float | None = None,
    on_failure: Callable[[BaseException], None] | None = None,
) -> T:
    """Return the result of `action`, retried as long as its fault is one that `heals` (default: that time heals).

    Raises any other fault at once, and the last one when `stop` is set, after so many `attempts` or, between two of
    them, after `give_up_s`. An action that lasts tells by `outage.over()` that it works; the waits then start again.
    on_failure: told of every fault.
    """

    if heals is None:
        # here: it imports the clients of all four servers, and the broker and the exchange only want the Backoff
        from app.wire.faults import time_heals

        heals = time_heals

    def report(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if error is not None:
            outage.failed(error)
            if on_failure is not None:
                on_failure(error)

    def is_last(state: RetryCallState) -> bool:
        return (
            (stop is not None and stop.is_set())
            or (attempts is not None and state.attempt_number >= attempts)
            or (give_up_s is not None and (state.seconds_since_start or 0.0) >= give_up_s)
        )

    retrying = AsyncRetrying(
        retry=retry_if_exception(heals),
        wait=lambda state: backoff.wait_s(max(1, min(state.attempt_number, outage.failures))),
        stop=is_last,
        after=report,
        sleep=lambda seconds: sleep_until(stop, seconds),
        reraise=True,
    )

    async def attempt() -> T:
        # tenacity awaits only functions it recognises as coroutine functions
        return await action()

    result: T = await retrying(attempt)
    outage.over()
    return result


async def sleep_until(stop: asyncio.Event | None, seconds: float) -> None:
    """Sleep for `seconds`, or until `stop` is set."""
    if stop is None:
        await asyncio.sleep(seconds)
        return
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
