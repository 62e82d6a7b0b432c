"""A made-up alert, for trying whether a target works."""

from __future__ import annotations

from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from app.clock import Clock
from app.errors import NoSuchWebhook
from app.rules.alert import Alert, Timings
from app.times import rfc3339, utc
from app.webhooks.delivery.message import TEST_RULE, Message
from app.webhooks.delivery.outbox import QUERIES, Claimed


async def trial_message(connection: AsyncConnection, target_id: UUID, clock: Clock) -> Claimed:
    """Return a test message for operators, to be sent at once without the outbox. Raises NoSuchWebhook."""
    message_id = uuid4()
    now_ms = clock.now_ms()
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES["test_target"], {"id": target_id, "user_id": None, "now": utc(now_ms)})
        row = await cursor.fetchone()
    if row is None:
        raise NoSuchWebhook(f"no webhook target {target_id}")
    return Claimed(
        message=Message(message_id, "test", (_made_up_alert(message_id, now_ms),)),
        lease_id=None,
        target_id=row["id"],
        url=row["url"],
        format=row["format"],
        secrets=tuple(filter(None, (row["secret"], row["previous_secret"]))),
        attempts=0,
        created_ms=now_ms,
        paced=0,
        of_user=row["of_user"],
    )


async def put_trial(connection: AsyncConnection, target_id: UUID, clock: Clock, user_id: str | None) -> UUID:
    """Put a test message into the outbox, to be sent like an alert; return the id of its delivery.

    Raises NoSuchWebhook for a target that is not there, not the caller's, or off.
    """
    now_ms, trial_id = clock.now_ms(), uuid4()
    given = {
        "id": trial_id,
        "alert": _made_up_alert(trial_id, now_ms).encode().decode(),
        "target_id": target_id,
        "user_id": user_id,
        "now": utc(now_ms),
    }
    cursor = await connection.execute(QUERIES["put_trial"], given)
    if cursor.rowcount == 0:
        raise NoSuchWebhook("no enabled webhook")
    return trial_id


def _made_up_alert(message_id: UUID, now_ms: int) -> Alert:
    return Alert(
        id=str(message_id),
        seq=0,
        symbol="TESTUSDT",
        rule_type=TEST_RULE,
        rule_version=1,
        severity="info",
        description="This is a test of the webhook. Nothing happened in the market.",
        timestamp=rfc3339(now_ms),
        price=1.0,
        metadata={},
        timings=Timings(),
    )
