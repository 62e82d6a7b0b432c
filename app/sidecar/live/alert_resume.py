"""Catches up a client that resumes: from memory, or from the database where memory begins too late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from aiohttp import WSCloseCode

from app.sidecar.live.alert_log import AlertLog, LoggedAlert
from app.sidecar.live.receivers import ClientRefused
from app.sidecar.state.alert_history import AlertHistory
from app.sidecar.state.database import HistoryUnavailable
from app.sidecar.state.feeds import AlertFeed
from app.sidecar.state.limits import SidecarLimits

BEGAN_ANEW: Final = "the sequence of alerts started again: connect without it"
BEHIND: Final = "the history is not complete yet: retry with the same since"
STARTING: Final = "the sidecar is still loading: retry"
NO_HISTORY: Final = "the history cannot be reached: retry with the same since"
_POLL_S: Final = 0.1

T = TypeVar("T")
Send = Callable[[Sequence[LoggedAlert]], Awaitable[None]]


class ResumeError(ClientRefused):
    """It is unknown whether the client would miss an alert, so no alert is sent."""


@dataclass(frozen=True, slots=True)
class AlertGap:
    """Alerts after `since` may be missing. The available ones begin after `resumes_after`.

    too_old: the oldest of them are not stored any more. began_anew: `since` is of an earlier sequence (the
    topic of alerts was created again), whose alerts may be lost.
    """

    reason: Literal["too_old", "began_anew"]
    since: int
    resumes_after: int


class AlertResume:
    """Catches up clients that resume. Every method raises ResumeError when it cannot do its work."""

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
        """The newest seq in the database, as last seen."""

    @property
    def newest_seq(self) -> int:
        return self._alerts.newest_seq

    async def reach_now(self) -> None:
        """Wait until the alerts from before this sidecar's start have been read: they do not count as new."""
        if not await self._comes_true(self._caught_up):
            raise ResumeError(WSCloseCode.TRY_AGAIN_LATER, STARTING)

    async def find_gap(self, since: int, since_id: str | None = None) -> AlertGap | None:
        """Return the gap; None if all alerts after `since` can be sent. `since_id`: the id of the alert with that seq.

        Waits until this sidecar has read up to `since`: another one may have been ahead of it.
        """
        if not await self._comes_true(lambda: self._feed.epoch > 0 and self._alerts.newest_seq >= since):
            if not self._caught_up():
                raise ResumeError(WSCloseCode.TRY_AGAIN_LATER, STARTING)
            return AlertGap("began_anew", since, -1)
        if since < 0:
            return None
        if since_id is not None and not await self._is_at(since, since_id):
            return AlertGap("began_anew", since, -1)
        if self._alerts.holds_all_after(since):
            return None
        await self._wait_until_stored(self._alerts.settled_seq)
        oldest_seq = await _asked(self._history.oldest_seq())
        if oldest_seq is None or oldest_seq > since + 1:
            return AlertGap(
                "too_old", since, self._alerts.floor_seq if oldest_seq is None else oldest_seq - 1
            )
        return None

    async def catch_up(self, since: int, send: Send, join: Callable[[], None]) -> None:
        """Send all alerts after `since`, then call `join`. Nothing is awaited between the last look for alerts and
        `join`, so the next alert broadcast is the first one not sent here."""
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
            # alerts in memory may all be sent without a pause, and there are other clients
            await asyncio.sleep(0)

    async def _is_at(self, seq: int, identifier: str) -> bool:
        """Return whether the alert of this seq has this id; true if memory begins too late and the database does not
        know the id."""
        if self._alerts.holds_all_after(seq - 1):
            alert = self._alerts.at(seq)
            return alert is not None and alert.id == identifier
        stored_seq = await _asked(self._history.seq_of(identifier))
        return stored_seq is None or stored_seq == seq

    async def _comes_true(self, condition: Callable[[], bool]) -> bool:
        """Return whether the condition becomes true within `settle_s`."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._limits.settle_s
        while not condition():
            if loop.time() >= until_s:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def _from_database(self, cursor: int) -> tuple[list[LoggedAlert], int]:
        """Return the next alerts after `cursor` that memory does not hold, and the cursor after them."""
        floor_seq = self._alerts.floor_seq
        await self._wait_until_stored(self._alerts.settled_seq)
        found = await _asked(self._history.since(cursor, self._limits.catch_up_alerts))
        stored = [one for one in map(LoggedAlert.of, found) if one.seq <= floor_seq]
        return stored, stored[-1].seq if stored else floor_seq

    async def _wait_until_stored(self, seq: int) -> None:
        """Wait until the database holds all alerts up to `seq`: they are written in order."""
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
