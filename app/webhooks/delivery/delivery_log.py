"""The log of deliveries, with reasons of failure, and their redelivery.

As with targets, a log made for a user contains only that user's deliveries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from app.clock import Clock
from app.errors import NoSuchWebhook
from app.times import utc
from app.webhooks.delivery.outbox import QUERIES
from app.webhooks.short_ids import bounds, only_one

Status = Literal["pending", "delivered", "dead"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One alert for one target. `message_id`: the delivery that leads the message it travelled in, None while a
    digest gathers. `due_at`: when it is tried next. `error`: why the last attempt failed."""

    id: UUID
    target_id: UUID
    message_id: UUID | None
    alert_id: UUID
    seq: int
    symbol: str
    rule_type: str
    status: Status
    attempts: int
    due_at: datetime | None
    response_status: int | None
    error: str | None
    created_at: datetime
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Attempt:
    attempt: int
    at: datetime
    duration_ms: int
    response_status: int | None
    outcome: str


class DeliveryLog:
    """Reads and redelivers over the caller's connection. Methods raise psycopg.Error."""

    def __init__(self, connection: AsyncConnection, clock: Clock, user_id: str | None = None) -> None:
        self._connection = connection
        self._clock = clock
        self._user_id = user_id

    async def newest(
        self, most: int, target_id: UUID | None = None, status: Status | None = None
    ) -> list[Delivery]:
        return await self._deliveries(most, target_id, status, None)

    async def find(self, given: str) -> UUID:
        """Return the id of the delivery whose id is `given` or begins with it. Raises NoSuchWebhook, ValueError."""
        first, last = bounds(given)
        cursor = await self._connection.execute(
            QUERIES["delivery_ids"], {"user_id": self._user_id, "first": first, "last": last}
        )
        return only_one("delivery", given, [row[0] for row in await cursor.fetchall()])

    async def get(self, delivery_id: UUID) -> tuple[Delivery, list[Attempt]]:
        """Return a delivery and the attempts at its message, oldest first. Raises NoSuchWebhook."""
        found = await self._deliveries(1, None, None, delivery_id)
        if not found:
            raise NoSuchWebhook(f"no webhook delivery {delivery_id}")
        async with self._connection.cursor(row_factory=class_row(Attempt)) as cursor:
            await cursor.execute(QUERIES["attempts"], {"message_id": found[0].message_id})
            return found[0], await cursor.fetchall()

    async def redeliver(self, delivery_ids: Sequence[UUID]) -> int:
        """Send these again, delivered or not, under the same ids; return how many messages. Raises NoSuchWebhook if
        all of them are missing or were never sent."""
        count = await self._redeliver(list(delivery_ids), None)
        if count == 0:
            raise NoSuchWebhook("no matching webhook delivery to send again")
        return count

    async def redeliver_dead(self, target_id: UUID | None = None) -> int:
        """Send given-up messages again, to one target or all; return their number."""
        return await self._redeliver(None, target_id)

    async def _deliveries(
        self, most: int, target_id: UUID | None, status: Status | None, delivery_id: UUID | None
    ) -> list[Delivery]:
        given = {
            "user_id": self._user_id,
            "target_id": target_id,
            "status": status,
            "id": delivery_id,
            "rows": most,
        }
        async with self._connection.cursor(row_factory=class_row(Delivery)) as cursor:
            await cursor.execute(QUERIES["deliveries"], given)
            return await cursor.fetchall()

    async def _redeliver(self, ids: list[UUID] | None, target_id: UUID | None) -> int:
        given = {
            "user_id": self._user_id,
            "ids": ids,
            "target_id": target_id,
            "now": utc(self._clock.now_ms()),
        }
        cursor = await self._connection.execute(QUERIES["redeliver"], given)
        return len({row[1] for row in await cursor.fetchall()})
