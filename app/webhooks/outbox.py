"""The outbox: every alert for every target that wants it, in the database until it is delivered or given up.

A delivery is one alert for one target, unique by both. A message is what one request carries: a delivery by itself,
or those of a digest, led by the first of them. Messages are claimed under a lease; a sender that dies leaves them to
the others when the lease is over, so nothing is lost, and what had arrived already comes again with the same id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import orjson
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from app.database.named_queries import named_queries
from app.database.stored_alert import StoredAlert
from app.webhooks.formats import Format
from app.webhooks.message import DIGEST_MAX_ALERTS, TEST_RULE, Kind, Message
from app.webhooks.post import Answer
from app.webhooks.verdicts import Verdict

QUERIES = named_queries("webhooks.sql")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that is ours to send until its lease is over; `attempts` were made before."""

    message: Message
    lease_id: UUID | None
    target_id: UUID
    url: str
    format: Format
    secrets: tuple[str, ...]
    attempts: int
    created_ms: int


@dataclass(frozen=True, slots=True)
class Room:
    """How many messages may be claimed: in all, and for one target, less those it has in flight."""

    total: int
    per_target: int
    in_flight: Mapping[UUID, int]


@dataclass(frozen=True, slots=True)
class Settled:
    """An attempt that is over, with its outcome and what follows."""

    claimed: Claimed
    answer: Answer
    verdict: Verdict
    at_ms: int


def moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


async def route(connection: AsyncConnection, alerts: Sequence[StoredAlert], now_ms: int) -> int:
    """Writes the deliveries of the alerts in one transaction, and returns how many were new.

    Repeating it is harmless. Raises psycopg.Error, and then has written nothing.
    """
    parameters = {
        "seqs": [alert.seq for alert in alerts],
        "alerts": [orjson.dumps(alert.alert).decode() for alert in alerts],
        "published": [moment(_published_ms(alert, now_ms)) for alert in alerts],
        "now": moment(now_ms),
    }
    async with connection.transaction():
        cursor = await connection.execute(QUERIES["route"], parameters)
    return cursor.rowcount


def is_stale(alert: StoredAlert, now_ms: int, max_age_ms: int) -> bool:
    """It was about a time longer ago than that when it was published. How long it waited since does not count."""
    about_ms = datetime.fromisoformat(alert.alert["timestamp"]).timestamp() * 1000
    return _published_ms(alert, now_ms) - about_ms > max_age_ms


def _published_ms(alert: StoredAlert, now_ms: int) -> int:
    """Now, for an alert that does not say it in a way to be believed."""
    time_ms = alert.alert["timings"].get("publish_ts_ms")
    return time_ms if type(time_ms) is int and 0 <= time_ms <= now_ms else now_ms


async def claim(connection: AsyncConnection, now_ms: int, lease_ms: int, room: Room) -> list[Claimed]:
    """Takes the messages that are due, for as many as there is room; the oldest of each target first. In a
    transaction of the caller's."""
    lease = uuid4()
    now = moment(now_ms)
    await connection.execute(QUERIES["close_digests"], {"now": now, "most": DIGEST_MAX_ALERTS})
    cursor = await connection.execute(
        QUERIES["claim"],
        {
            "now": now,
            "lease": lease,
            "leased_until": moment(now_ms + lease_ms),
            "room": room.total,
            "target_room": room.per_target,
            "busy_targets": list(room.in_flight),
            "busy_messages": list(room.in_flight.values()),
        },
    )
    ids = [row[0] for row in await cursor.fetchall()]
    return await load_messages(connection, ids, now_ms) if ids else []


async def load_messages(connection: AsyncConnection, ids: Sequence[UUID], now_ms: int) -> list[Claimed]:
    """The messages led by these deliveries, whether leased or not."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES["messages"], {"ids": list(ids), "now": moment(now_ms)})
        return [_claimed(row) for row in await cursor.fetchall()]


def _claimed(row: dict[str, Any]) -> Claimed:
    alerts = tuple(
        {"id": alert["id"], "seq": seq} | alert for seq, alert in zip(row["seqs"], row["alerts"], strict=True)
    )
    return Claimed(
        message=Message(row["id"], _kind(row["digest_s"], alerts), alerts),
        lease_id=row["lease_id"],
        target_id=row["target_id"],
        url=row["url"],
        format=row["format"],
        secrets=tuple(filter(None, (row["secret"], row["previous_secret"]))),
        attempts=row["attempts"],
        created_ms=round(row["created_at"].timestamp() * 1000),
    )


def _kind(digest_s: int, alerts: Sequence[Mapping[str, Any]]) -> Kind:
    if alerts[0]["rule_type"] == TEST_RULE:
        return "test"
    return "digest" if digest_s or len(alerts) > 1 else "alert"


async def settle(connection: AsyncConnection, settled: Sequence[Settled], now_ms: int) -> list[UUID]:
    """Records attempts and what follows for their messages and targets; in a transaction of the caller's.

    What somebody else took over after its lease was over is logged only. Returns the targets that were disabled.
    """
    now = moment(now_ms)
    await _settle_messages(connection, settled, now)
    await _note_targets(connection, settled, now)
    disabled = []
    for one in settled:
        if one.verdict.disable is not None and await _disable(connection, one, one.verdict.disable):
            disabled.append(one.claimed.target_id)
    return disabled


async def _settle_messages(connection: AsyncConnection, settled: Sequence[Settled], now: datetime) -> None:
    ids = [one.claimed.message.delivery_id for one in settled]
    failures = [None if one.answer.delivered else one.answer.outcome for one in settled]
    attempts = [one.claimed.attempts + 1 for one in settled]
    statuses = [one.answer.status for one in settled]
    cursor = await connection.execute(
        QUERIES["settle"],
        {
            "now": now,
            "ids": ids,
            "leases": [one.claimed.lease_id for one in settled],
            "statuses": [one.verdict.status for one in settled],
            "attempts": attempts,
            "due": [None if one.verdict.due_ms is None else moment(one.verdict.due_ms) for one in settled],
            "response_statuses": statuses,
            "errors": failures,
        },
    )
    ours = [row[0] for row in await cursor.fetchall()]
    if any(len(one.claimed.message.alerts) > 1 for one in settled):
        await connection.execute(QUERIES["settle_followers"], {"ids": ours})
    await connection.execute(
        QUERIES["log_attempts"],
        {
            "ids": ids,
            "attempts": attempts,
            "at": [moment(one.at_ms) for one in settled],
            "durations": [one.answer.duration_ms for one in settled],
            "response_statuses": statuses,
            "outcomes": [one.answer.outcome for one in settled],
        },
    )


async def _note_targets(connection: AsyncConnection, settled: Sequence[Settled], now: datetime) -> None:
    """`settled`: in the order of their ends."""
    by_target: dict[tuple[UUID, str], list[Settled]] = {}
    for one in settled:
        by_target.setdefault((one.claimed.target_id, one.claimed.url), []).append(one)
    held_ms = [max(one.verdict.hold_until_ms or 0 for one in ended) for ended in by_target.values()]
    await connection.execute(
        QUERIES["note_targets"],
        {
            "now": now,
            "target_ids": [target_id for target_id, _ in by_target],
            "urls": [url for _, url in by_target],
            "succeeded": [any(one.answer.delivered for one in ended) for ended in by_target.values()],
            "failures": [_failures_at_the_end(ended) for ended in by_target.values()],
            "held_until": [moment(time_ms) if time_ms else None for time_ms in held_ms],
        },
    )


def _failures_at_the_end(ended: Sequence[Settled]) -> int:
    count = 0
    for one in ended:
        count = 0 if one.answer.delivered else count + 1
    return count


async def _disable(connection: AsyncConnection, settled: Settled, reason: str) -> bool:
    claimed = settled.claimed
    since = moment(claimed.created_ms) if reason == "exhausted" else None
    cursor = await connection.execute(
        QUERIES["disable_target"],
        {"target_id": claimed.target_id, "url": claimed.url, "reason": reason, "since": since},
    )
    return cursor.rowcount > 0


async def release(connection: AsyncConnection, claimed: Sequence[Claimed]) -> None:
    """Gives back what was not sent, for whoever comes next."""
    await connection.execute(
        QUERIES["release"],
        {
            "ids": [one.message.delivery_id for one in claimed],
            "leases": [one.lease_id for one in claimed],
        },
    )
