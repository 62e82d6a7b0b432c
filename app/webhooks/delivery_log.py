"""What was delivered, what was not and why; and sending it again.

As with targets, a log made for a user is of that user's deliveries only.
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
from app.webhooks.outbox import QUERIES, moment

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
    """On a connection that the caller keeps. Methods raise psycopg.Error."""

    def __init__(self, connection: AsyncConnection, clock: Clock, user_id: str | None = None) -> None:
        self._connection = connection
        self._clock = clock
        self._user_id = user_id

    async def newest(
        self, most: int, target_id: UUID | None = None, status: Status | None = None
    ) -> list[Delivery]:
        return await self._deliveries(most, target_id, status, None)

    async def get(self, delivery_id: UUID) -> tuple[Delivery, list[Attempt]]:
        """A delivery and the attempts at its message, oldest first. Raises NoSuchWebhook."""
        found = await self._deliveries(1, None, None, delivery_id)
        if not found:
            raise NoSuchWebhook(f"there is no webhook delivery {delivery_id}")
        async with self._connection.cursor(row_factory=class_row(Attempt)) as cursor:
            await cursor.execute(QUERIES["attempts"], {"message_id": found[0].message_id})
            return found[0], await cursor.fetchall()

    async def redeliver(self, delivery_ids: Sequence[UUID]) -> int:
        """Sends these again, delivered or not, under the same ids; how many messages. Raises NoSuchWebhook if none of
        them is there or was ever sent."""
        count = await self._redeliver(list(delivery_ids), None)
        if count == 0:
            raise NoSuchWebhook("none of these webhook deliveries is there to be sent again")
        return count

    async def redeliver_dead(self, target_id: UUID | None = None) -> int:
        """Sends again what was given up, at one target or all; how many messages."""
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
            "now": moment(self._clock.now_ms()),
        }
        cursor = await self._connection.execute(QUERIES["redeliver"], given)
        return len({row[1] for row in await cursor.fetchall()})
