"""Sends due messages of the outbox: many requests at a time, few to one target.

One loop alternates between the database (outcomes in, messages out, each in one transaction for all of them) and
waiting for requests to end. First attempts go to a target in the order of the alerts, as many at a time as it may have;
a message that failed is due again by the schedule of `app.webhooks.delivery.retries` and holds up no other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import psycopg
import structlog
from prometheus_client import CollectorRegistry

from app.clock import Clock
from app.database.connection import Pool
from app.process.health.backlog import Waiting
from app.process.quarantine import Attempts
from app.process.tasks import ended
from app.telemetry import database_metrics, webhook_metrics
from app.webhooks.delivery.attempt import GuardedMessages
from app.webhooks.delivery.housekeeping import Depth
from app.webhooks.delivery.outbox import Claimed, Settled, claim, release, settle
from app.webhooks.delivery.post import Answer, WebhookClient
from app.webhooks.delivery.reports import AttemptReports
from app.webhooks.delivery.request_slots import RequestSlots
from app.webhooks.delivery.verdicts import Past, verdict
from app.wire.faults import time_heals
from app.wire.retry import OutageLog, retried

log = structlog.get_logger("webhooks")

_POLL_S = 0.5
"""How soon it finds messages that others wrote, or that became due."""
_LEASE_MARGIN_MS = 1_000
_CONNECTION_TIMEOUT_S = 5.0
_LOOKS_END_MS = 10_000
"""Without a successful look at the outbox for longer, the database counts as not answering."""


Ended = dict[asyncio.Task[Answer], Settled]
"""Attempts that are over and not recorded yet."""


@dataclass(frozen=True, slots=True)
class SenderLimits:
    """`concurrency`: requests at a time in all, `target_concurrency` to one target; each user has one target."""

    concurrency: int
    target_concurrency: int
    timeout_s: float
    stop_grace_s: float = 5.0
    """How long requests under way may continue after stop."""

    @property
    def lease_ms(self) -> int:
        """Twice the longest attempt, so that only a sender that died or cannot record loses its messages to others."""
        return round(2 * self.timeout_s * 1000) + _LEASE_MARGIN_MS


class Sender:
    """Sends the due messages of the outbox. Any number of senders may work on one outbox."""

    def __init__(
        self,
        pool: Pool,
        client: WebhookClient,
        limits: SenderLimits,
        clock: Clock,
        random: Callable[[], float],
        attempts: Attempts,
        registry: CollectorRegistry,
    ) -> None:
        """random: in [0, 1), for the jitter of retries. attempts: at which messages a sender has ended. registry: of
        the role's metrics."""
        self._attempts = attempts
        self._pool = pool
        self._messages = GuardedMessages(client, clock, attempts, database_metrics(registry))
        self._limits = limits
        self._clock = clock
        self._random = random
        self._reports = AttemptReports(webhook_metrics(registry))
        self._database_metrics = database_metrics(registry)
        self._in_flight: dict[asyncio.Task[Answer], Claimed] = {}
        self._slots = RequestSlots(limits.concurrency, limits.target_concurrency)
        self._wake = asyncio.Event()
        self._held_until_ms: dict[UUID, int] = {}
        self._outage = OutageLog(log, "sender_waits")
        self._looked_ms = clock.now_ms()
        """When it last looked at the outbox successfully."""
        self._handled_ms: int | None = None
        """When it last claimed or settled a message."""
        self._depth = Depth(0, None)

    def note_depth(self, depth: Depth) -> None:
        """Note the depth of the outbox."""
        self._depth = depth

    def waiting(self) -> Waiting:
        """Return the outbox's backlog: it stands still while no message is claimed although some could be, or while the
        database does not answer."""
        depth, handled_ms = self._depth, self._handled_ms
        if self._clock.now_ms() - self._looked_ms > _LOOKS_END_MS:
            return Waiting(depth.pending, self._looked_ms, self._looked_ms, handled_ms)
        since_ms = depth.unclaimed_since_ms
        if since_ms is None:
            return Waiting(depth.pending, handled_ms=handled_ms)
        return Waiting(depth.pending, since_ms, max(since_ms, handled_ms or 0), handled_ms)

    def wake(self) -> None:
        """Look at the outbox soon: there may be a new message."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop`; then requests in flight have `stop_grace_s` to end, and the rest is left to others."""
        waiter = asyncio.create_task(stop.wait(), name="webhooks-stop")
        self._attempts.open()
        try:
            while not stop.is_set():
                self._wake.clear()
                await retried(self.step, self._outage, stop=stop, on_failure=self._note_failure)
                await self._until_something_happens(waiter)
            await self._finish()
        except Exception as error:
            if not (stop.is_set() and time_heals(error)):
                raise
            # unrecorded outcomes are sent again when their lease is over
            log.warning("stopped_in_outage", error=str(error))
        finally:
            waiter.cancel()
            await self.abandon()
            self._attempts.close()

    def _note_failure(self, error: BaseException) -> None:
        if isinstance(error, psycopg.Error):
            self._database_metrics.errors.labels(operation="webhooks_outbox").inc()

    async def abandon(self) -> None:
        """End requests under way and record nothing: they are sent again when their lease is over."""
        await ended(*self._in_flight)
        for claimed in self._in_flight.values():
            self._slots.ended(claimed, None)
        self._in_flight.clear()

    async def step(self) -> int:
        """Record finished requests and start due ones; return how many messages it began. Raises psycopg.Error."""
        ended = self._ended()
        async with (
            self._pool.connection(timeout=_CONNECTION_TIMEOUT_S) as connection,
            connection.transaction(),
        ):
            disabled = await self._settle(connection, ended)
            claimed = await self._claim(connection, set(ended))
        self._forget(ended, disabled)
        self._looked_ms = self._clock.now_ms()
        if ended or claimed:
            self._handled_ms = self._looked_ms
        for message in claimed:
            self._in_flight[asyncio.create_task(self._messages.attempt(message))] = message
            self._slots.began(message, self._clock.now_ms())
        return len(claimed)

    async def _settle(self, connection: psycopg.AsyncConnection, ended: Ended) -> list[UUID]:
        return await settle(connection, list(ended.values()), self._clock.now_ms()) if ended else []

    async def _claim(
        self, connection: psycopg.AsyncConnection, ended: set[asyncio.Task[Answer]]
    ) -> list[Claimed]:
        """Claim messages for the free capacity."""
        running = [claimed.target_id for task, claimed in self._in_flight.items() if task not in ended]
        now_ms = self._clock.now_ms()
        room = self._slots.room(Counter(running), now_ms)
        if room.total <= 0:
            return []
        return await claim(connection, now_ms, self._limits.lease_ms, room, self._messages.load)

    async def deliver_due(self) -> int:
        """Send all messages that are due now or become due meanwhile; return the number of attempts."""
        attempts = 0
        while True:
            attempts += await self.step()
            if not self._in_flight:
                return attempts
            await asyncio.wait(self._in_flight)

    async def _until_something_happens(self, stopped: asyncio.Task[bool]) -> None:
        woken = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait(
                {*self._in_flight, woken, stopped},
                timeout=self._until_a_hold_ends_s(),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            woken.cancel()

    def _until_a_hold_ends_s(self) -> float:
        """Return the time until the next poll, or until a paused target may get its next message if that is sooner."""
        now_ms = self._clock.now_ms()
        self._held_until_ms = {one: until for one, until in self._held_until_ms.items() if until > now_ms}
        return min([_POLL_S, *((until - now_ms) / 1000 for until in self._held_until_ms.values())])

    def _ended(self) -> Ended:
        return {
            task: self._judged(claimed, task.result())
            for task, claimed in self._in_flight.items()
            if task.done()
        }

    def _forget(self, ended: Ended, disabled: Sequence[UUID]) -> None:
        """Forget only recorded attempts."""
        for task, one in ended.items():
            del self._in_flight[task]
            self._slots.ended(one.claimed, one.answer.duration_ms)
            if one.verdict.hold_until_ms is not None:
                self._held_until_ms[one.claimed.target_id] = one.verdict.hold_until_ms
        self._reports.ended(list(ended.values()))
        self._reports.disabled(disabled)

    def _judged(self, claimed: Claimed, answer: Answer) -> Settled:
        now_ms = self._clock.now_ms()
        past = Past(claimed.attempts, now_ms - claimed.created_ms, claimed.paced)
        return Settled(claimed, answer, verdict(answer, past, now_ms, self._random()), now_ms)

    async def _finish(self) -> None:
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=self._limits.stop_grace_s)
        async with self._pool.connection(timeout=_CONNECTION_TIMEOUT_S) as connection:
            ended = self._ended()
            async with connection.transaction():
                disabled = await self._settle(connection, ended)
            self._forget(ended, disabled)
            left = list(self._in_flight.values())
            await self.abandon()
            with suppress(psycopg.OperationalError):
                await release(connection, left)
