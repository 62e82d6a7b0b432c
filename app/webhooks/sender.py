"""Sends what is due in the outbox: many requests at a time, few to one target.

One loop alternates between the database (outcomes in, messages out, each in one transaction for all of them) and
waiting for requests to end. First attempts go to a target in the order of the alerts, as many at a time as it may have;
a message that failed is due again by the schedule of `app.webhooks.retries` and holds up no other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import get_args
from uuid import UUID

import psycopg
import structlog

from app.clock import Clock
from app.database.connection import Pool
from app.database.outages import OUTAGES, until_done
from app.telemetry import WebhookMetrics, webhook_metrics
from app.webhooks.formats import render
from app.webhooks.outbox import Claimed, Room, Settled, claim, release, settle
from app.webhooks.post import Answer, Outcome, WebhookClient
from app.webhooks.signing import signature_headers
from app.webhooks.verdicts import verdict

log = structlog.get_logger("webhooks")

_POLL_S = 0.5
"""How soon messages are found that others wrote, or that became due."""
_LEASE_MARGIN_MS = 1_000
_CONNECTION_TIMEOUT_S = 5.0


Ended = dict[asyncio.Task[Answer], Settled]
"""Attempts that are over and not recorded yet."""


@dataclass(frozen=True, slots=True)
class SenderLimits:
    concurrency: int
    target_concurrency: int
    timeout_s: float
    stop_grace_s: float = 5.0
    """How long requests under way may go on after stop."""

    @property
    def lease_ms(self) -> int:
        """Twice what an attempt can take, so that only who died or cannot record loses its messages to others."""
        return round(2 * self.timeout_s * 1000) + _LEASE_MARGIN_MS


async def send(client: WebhookClient, claimed: Claimed, now_ms: int) -> Answer:
    """One attempt; the signature is of its time."""
    rendered = render(claimed.format, claimed.url, claimed.message)
    headers: dict[str, str] = {}
    if rendered.signed:
        headers = signature_headers(claimed.message.id, now_ms // 1000, rendered.body, claimed.secrets)
    return await client.post(rendered.url, rendered.body, headers)


class Sender:
    """Any number of them may work on one outbox."""

    def __init__(
        self,
        pool: Pool,
        client: WebhookClient,
        limits: SenderLimits,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        """random: in [0, 1), for the jitter of retries."""
        self._pool = pool
        self._client = client
        self._limits = limits
        self._clock = clock
        self._random = random
        self._metrics: WebhookMetrics = webhook_metrics()
        for reason in get_args(Outcome):
            if reason != "delivered":
                # a rate is known only of what was there before it grew
                self._metrics.failed.labels(reason=reason)
        self._in_flight: dict[asyncio.Task[Answer], Claimed] = {}
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There may be something new."""
        self._wake.set()

    async def run(self, stop: asyncio.Event, on_outage: Callable[[BaseException], None]) -> None:
        """Until `stop`; requests under way have a while to end, the rest is left to others at once."""
        waiter = asyncio.create_task(stop.wait(), name="webhooks-stop")
        try:
            while not stop.is_set():
                self._wake.clear()
                await until_done(self.step, stop, on_outage)
                await self._until_something_happens(waiter)
            await self._finish()
        except OUTAGES as error:
            # only after stop: what is not recorded is sent again when its lease is over
            log.warning("stopped_in_outage", error=str(error))
        finally:
            waiter.cancel()
            await self.abandon()

    async def abandon(self) -> None:
        """Ends what is under way and records nothing: it is sent again when its lease is over."""
        for task in self._in_flight:
            task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        self._in_flight.clear()

    async def step(self) -> int:
        """Records what ended and begins what is due; returns how many messages it began. Raises psycopg.Error."""
        ended = self._ended()
        async with (
            self._pool.connection(timeout=_CONNECTION_TIMEOUT_S) as connection,
            connection.transaction(),
        ):
            disabled = await self._settle(connection, ended)
            claimed = await self._claim(connection, set(ended))
        self._forget(ended, disabled)
        for message in claimed:
            self._in_flight[asyncio.create_task(self._attempt(message))] = message
        return len(claimed)

    async def _settle(self, connection: psycopg.AsyncConnection, ended: Ended) -> list[UUID]:
        return await settle(connection, list(ended.values()), self._clock.now_ms()) if ended else []

    async def _claim(
        self, connection: psycopg.AsyncConnection, ended: set[asyncio.Task[Answer]]
    ) -> list[Claimed]:
        """For the room that those who ended left."""
        running = [claimed.target_id for task, claimed in self._in_flight.items() if task not in ended]
        room = self._limits.concurrency - len(running)
        if room <= 0:
            return []
        return await claim(
            connection,
            self._clock.now_ms(),
            self._limits.lease_ms,
            Room(room, self._limits.target_concurrency, Counter(running)),
        )

    async def _attempt(self, claimed: Claimed) -> Answer:
        try:
            return await send(self._client, claimed, self._clock.now_ms())
        except Exception:
            # a message that cannot even be made must not keep the others from being sent: it is retried, then dead
            log.exception("webhook_attempt_broke", message=claimed.message.id)
            return Answer("internal", None, None, 0)

    async def deliver_due(self) -> int:
        """All that is due now, and what becomes due meanwhile; returns how many attempts it made."""
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
                {*self._in_flight, woken, stopped}, timeout=_POLL_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            woken.cancel()

    def _ended(self) -> Ended:
        return {
            task: self._judged(claimed, task.result())
            for task, claimed in self._in_flight.items()
            if task.done()
        }

    def _forget(self, ended: Ended, disabled: Sequence[UUID]) -> None:
        """Only what is recorded."""
        for task in ended:
            del self._in_flight[task]
        self._count(list(ended.values()))
        for target_id in disabled:
            self._metrics.disabled.inc()
            log.error("webhook_target_disabled", target=str(target_id))

    def _judged(self, claimed: Claimed, answer: Answer) -> Settled:
        now_ms = self._clock.now_ms()
        return Settled(claimed, answer, verdict(answer, claimed.attempts + 1, now_ms, self._random()), now_ms)

    def _count(self, settled: Sequence[Settled]) -> None:
        for one in settled:
            self._metrics.attempt.observe(one.answer.duration_ms / 1000)
            if one.answer.delivered:
                self._metrics.sent.inc()
                for published_ms in one.claimed.message.published_ms:
                    self._metrics.delivery.observe(max(0, one.at_ms - published_ms) / 1000)
                continue
            self._metrics.failed.labels(reason=one.answer.outcome).inc()
            tell = log.warning
            if one.verdict.status == "dead":
                self._metrics.dead.inc()
                tell = log.error
            tell(
                "webhook_dead" if one.verdict.status == "dead" else "webhook_failed",
                message=one.claimed.message.id,
                target=str(one.claimed.target_id),
                attempt=one.claimed.attempts + 1,
                reason=one.answer.outcome,
                status=one.answer.status,
            )

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
