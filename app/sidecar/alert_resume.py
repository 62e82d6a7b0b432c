"""Bringing a client that resumes up to now: from memory, or from the database where memory begins too late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from aiohttp import WSCloseCode

from app.sidecar.alert_log import AlertLog, LoggedAlert
from app.sidecar.feeds import AlertFeed
from app.sidecar.history import AlertHistory, HistoryUnavailable
from app.sidecar.limits import SidecarLimits
from app.sidecar.receivers import ClientRefused

BEGAN_ANEW: Final = "the sequence of alerts began anew: connect without it"
BEHIND: Final = "the history is not complete yet: try again with the same since"
STARTING: Final = "the sidecar is still reading what was there: try again"
NO_HISTORY: Final = "the history cannot be reached: try again with the same since"
_POLL_S: Final = 0.1

T = TypeVar("T")
Send = Callable[[Sequence[LoggedAlert]], Awaitable[None]]


class ResumeError(ClientRefused):
    """It cannot be said whether the client would miss something, so nothing is sent."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Alerts after `since` may be missing. What can still be had begins after `resumes_after`.

    too_old: the oldest of them are not stored any more. began_anew: `since` is of an earlier sequence (the
    topic of alerts was created again), in which there may have been alerts that nobody can give any more.
    """

    reason: Literal["too_old", "began_anew"]
    since: int
    resumes_after: int


class AlertResume:
    """Every method raises ResumeError when it cannot do what it says."""

    def __init__(
        self,
        alerts: AlertLog,
        feed: AlertFeed,
        history: AlertHistory,
        limits: SidecarLimits,
        caught_up: Callable[[], bool],
    ) -> None:
        """`caught_up`: whether the topic of alerts has been read up to where it ended at the start."""
        self._alerts = alerts
        self._feed = feed
        self._history = history
        self._limits = limits
        self._caught_up = caught_up
        self._stored_seq = -1
        """What the database was last seen to hold."""

    @property
    def newest_seq(self) -> int:
        return self._alerts.newest_seq

    async def reach_now(self) -> None:
        """Waits until what was there before this sidecar started has been read: it is not news."""
        if not await self._comes_true(self._caught_up):
            raise ResumeError(WSCloseCode.TRY_AGAIN_LATER, STARTING)

    async def find_gap(self, since: int, since_id: str | None = None) -> Gap | None:
        """Whether all alerts after `since` can be given. `since_id`: the id of the alert with that seq.

        Waits until this sidecar has read up to `since`: another one may have been ahead of it.
        """
        if not await self._comes_true(lambda: self._feed.epoch > 0 and self._alerts.newest_seq >= since):
            if not self._caught_up():
                raise ResumeError(WSCloseCode.TRY_AGAIN_LATER, STARTING)
            return Gap("began_anew", since, -1)
        if since < 0:
            return None
        if since_id is not None and not await self._is_at(since, since_id):
            return Gap("began_anew", since, -1)
        if self._alerts.holds_all_after(since):
            return None
        await self._wait_until_stored(self._alerts.settled_seq)
        oldest_seq = await _asked(self._history.oldest_seq())
        if oldest_seq is None or oldest_seq > since + 1:
            return Gap("too_old", since, self._alerts.floor_seq if oldest_seq is None else oldest_seq - 1)
        return None

    async def catch_up(self, since: int, send: Send, join: Callable[[], None]) -> None:
        """Sends all alerts after `since`, then calls `join`. Nothing is awaited between the last look and
        that, so that the next alert broadcast is the first one not sent here."""
        cursor, epoch = since, self._feed.epoch
        while True:
            if epoch != self._feed.epoch:
                raise ResumeError(WSCloseCode.SERVICE_RESTART, BEGAN_ANEW)
            if self._alerts.holds_all_after(cursor):
                found = self._alerts.after(cursor, self._limits.catch_up_alerts)
                if not found:
                    join()
                    return
                cursor = found[-1].seq
            else:
                found, cursor = await self._from_database(cursor)
            await send(found)
            # what is in memory may all be sent without a pause, and there are other clients
            await asyncio.sleep(0)

    async def _is_at(self, seq: int, identifier: str) -> bool:
        """Whether the alert of this seq has this id, as far as anybody still knows."""
        if self._alerts.holds_all_after(seq - 1):
            alert = self._alerts.at(seq)
            return alert is not None and alert.id == identifier
        stored_seq = await _asked(self._history.seq_of(identifier))
        return stored_seq is None or stored_seq == seq

    async def _comes_true(self, condition: Callable[[], bool]) -> bool:
        """Whether it does within `settle_s`."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._limits.settle_s
        while not condition():
            if loop.time() >= until_s:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def _from_database(self, cursor: int) -> tuple[list[LoggedAlert], int]:
        """The next alerts after `cursor` that memory does not hold, and the cursor after them."""
        floor_seq = self._alerts.floor_seq
        await self._wait_until_stored(self._alerts.settled_seq)
        found = await _asked(self._history.since(cursor, self._limits.catch_up_alerts))
        stored = [LoggedAlert.of(alert["seq"], alert) for alert in found if alert["seq"] <= floor_seq]
        return stored, stored[-1].seq if stored else floor_seq

    async def _wait_until_stored(self, seq: int) -> None:
        """Returns when the database holds all alerts up to `seq`: they are written in order."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._limits.settle_s
        while self._stored_seq < seq:
            newest_seq = await _asked(self._history.newest_seq())
            self._stored_seq = -1 if newest_seq is None else newest_seq
            if self._stored_seq < seq:
                if loop.time() >= until_s:
                    raise ResumeError(WSCloseCode.TRY_AGAIN_LATER, BEHIND)
                await asyncio.sleep(_POLL_S)


async def _asked(question: Awaitable[T]) -> T:
    try:
        return await question
    except HistoryUnavailable:
        raise ResumeError(WSCloseCode.TRY_AGAIN_LATER, NO_HISTORY) from None
