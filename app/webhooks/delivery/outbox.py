"""The outbox: every alert for every target that wants it, in the database until it is delivered or given up.

A delivery is one alert for one target, unique by both. A message is the content of one request: a delivery by itself,
or the deliveries of a digest, led by the first. Messages are claimed under a lease; a sender that dies leaves them to
the others when the lease is over: no message is lost, and one that had arrived already comes again with the same id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.rows import class_row

from app.database.named_queries import named_queries
from app.database.unreadable import tell
from app.rules.alert import Alert
from app.rules.alert_faults import alert_fault
from app.telemetry import DatabaseMetrics
from app.times import utc, utc_ms
from app.webhooks.delivery.message import DIGEST_MAX_ALERTS, TEST_RULE, Kind, Message
from app.webhooks.delivery.post import Answer
from app.webhooks.delivery.verdicts import Verdict

QUERIES = named_queries("webhooks.sql")
Load = Callable[[AsyncConnection, Sequence[UUID], int], Awaitable[list["Claimed"]]]
"""Like `load_messages`; a message that it leaves out is given up."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that is ours to send until its lease is over; `attempts` were used up before. `paced`: rounds in a row
    in which its target asked to wait. of_user: whether a user gave the URL, not an operator."""

    message: Message
    lease_id: UUID | None
    target_id: UUID
    url: str
    format: str
    secrets: tuple[str, ...]
    attempts: int
    created_ms: int
    paced: int
    of_user: bool


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message as it is stored. seqs, alerts: of its deliveries, in order of seq; None without one."""

    id: UUID
    attempts: int
    created_at: datetime | None
    lease_id: UUID | None
    target_id: UUID
    url: str
    format: str
    digest_s: int
    secret: str
    paced: int
    of_user: bool
    previous_secret: str | None
    seqs: Sequence[int] | None
    alerts: Sequence[Any] | None


@dataclass(frozen=True, slots=True)
class Room:
    """Free capacity: messages that may be claimed in total and per target, without messages in flight.

    shared: how many of `total` may be further messages to targets that have one in flight; None: all.
    slow, slow_total: the `slow` targets together get at most `slow_total` messages.
    """

    total: int
    per_target: int
    in_flight: Mapping[UUID, int]
    shared: int | None = None
    slow: Collection[UUID] = ()
    slow_total: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """A finished attempt, with its outcome and verdict."""

    claimed: Claimed
    answer: Answer
    verdict: Verdict
    at_ms: int


async def route(connection: AsyncConnection, alerts: Sequence[Alert], now_ms: int) -> int:
    """Write the deliveries of the alerts in one transaction, and return how many were new.

    Idempotent. Raises psycopg.Error, and then has written no delivery.
    """
    parameters = {
        "seqs": [alert.seq for alert in alerts],
        "alerts": [alert.encode().decode() for alert in alerts],
        "published": [utc(_published_ms(alert, now_ms)) for alert in alerts],
        "now": utc(now_ms),
    }
    async with connection.transaction():
        cursor = await connection.execute(QUERIES["route"], parameters)
    return cursor.rowcount


def is_stale(alert: Alert, now_ms: int, max_age_ms: int) -> bool:
    """Return whether the alert is about a time more than `max_age_ms` before its publication. How long it has waited
    since then does not count."""
    about_ms = datetime.fromisoformat(alert.timestamp).timestamp() * 1000
    return _published_ms(alert, now_ms) - about_ms > max_age_ms


def _published_ms(alert: Alert, now_ms: int) -> int:
    """Return when the alert was published (UTC ms); now, if it tells no time or an impossible one."""
    time_ms = alert.timings.publish_ts_ms
    return time_ms if time_ms is not None and 0 <= time_ms <= now_ms else now_ms


async def claim(
    connection: AsyncConnection, now_ms: int, lease_ms: int, room: Room, load: Load | None = None
) -> list[Claimed]:
    """Claim due messages, as many as there is room for, the oldest of each target first; in a transaction of the
    caller's."""
    now = utc(now_ms)
    await connection.execute(QUERIES["close_digests"], {"now": now, "most": DIGEST_MAX_ALERTS})
    given = {
        "now": now,
        "lease": uuid4(),
        "leased_until": utc(now_ms + lease_ms),
        "room": room.total,
        "target_room": room.per_target,
        "busy_targets": list(room.in_flight),
        "busy_messages": list(room.in_flight.values()),
        "shared_room": room.total if room.shared is None else room.shared,
        "slow_targets": list(room.slow),
        "slow_room": room.slow_total,
    }
    while True:
        ids = [row[0] for row in await (await connection.execute(QUERIES["claim"], given)).fetchall()]
        claimed = await (load or load_messages)(connection, ids, now_ms) if ids else []
        lost = set(ids).difference(one.message.delivery_id for one in claimed)
        if lost:
            await connection.execute(QUERIES["give_up_unreadable"], {"ids": list(lost), "now": now})
        if claimed or not lost:
            return claimed


async def load_messages(
    connection: AsyncConnection, ids: Sequence[UUID], now_ms: int, metrics: DatabaseMetrics | None = None
) -> list[Claimed]:
    """Return the messages led by these deliveries, whether leased or not; without deliveries that cannot make a
    message."""
    async with connection.cursor(row_factory=class_row(MessageRow)) as cursor:
        await cursor.execute(QUERIES["messages"], {"ids": list(ids), "now": utc(now_ms)})
        rows = await cursor.fetchall()
    readable = ((row, _readable(row, metrics)) for row in rows)
    return [_claimed(row, alerts, now_ms) for row, alerts in readable if alerts]


def _readable(row: MessageRow, metrics: DatabaseMetrics | None) -> tuple[Alert, ...]:
    """Return the alerts of a message, in order of seq, without invalid ones: a digest is sent without them."""
    found = []
    for seq, document in zip(row.seqs or (), row.alerts or (), strict=True):
        fault = alert_fault(document)
        if fault is None:
            found.append(Alert.from_dict(document, seq))
        else:
            tell("webhook_alerts", f"seq {seq}", fault, metrics)
    return tuple(found)


def _claimed(row: MessageRow, alerts: tuple[Alert, ...], now_ms: int) -> Claimed:
    return Claimed(
        message=Message(row.id, _kind(row.digest_s, alerts), alerts),
        lease_id=row.lease_id,
        target_id=row.target_id,
        url=row.url,
        format=row.format,
        secrets=tuple(filter(None, (row.secret, row.previous_secret))),
        attempts=row.attempts,
        created_ms=now_ms if row.created_at is None else utc_ms(row.created_at),
        paced=row.paced,
        of_user=row.of_user,
    )


def _kind(digest_s: int, alerts: Sequence[Alert]) -> Kind:
    if alerts[0].rule_type == TEST_RULE:
        return "test"
    return "digest" if digest_s or len(alerts) > 1 else "alert"


async def settle(connection: AsyncConnection, settled: Sequence[Settled], now_ms: int) -> list[UUID]:
    """Record attempts and their verdicts for messages and targets; in a transaction of the caller's.

    A message that another sender took over after its lease is only logged. Returns the targets that were disabled.
    """
    now = utc(now_ms)
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
    numbers = [one.claimed.attempts + 1 for one in settled]
    used = [one.claimed.attempts + (one.verdict.paced is None) for one in settled]
    statuses = [one.answer.status for one in settled]
    cursor = await connection.execute(
        QUERIES["settle"],
        {
            "now": now,
            "ids": ids,
            "leases": [one.claimed.lease_id for one in settled],
            "statuses": [one.verdict.status for one in settled],
            "attempts": used,
            "due": [None if one.verdict.due_ms is None else utc(one.verdict.due_ms) for one in settled],
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
            "attempts": numbers,
            "at": [utc(one.at_ms) for one in settled],
            "durations": [one.answer.duration_ms for one in settled],
            "response_statuses": statuses,
            "outcomes": [one.answer.outcome for one in settled],
        },
    )


async def _note_targets(connection: AsyncConnection, settled: Sequence[Settled], now: datetime) -> None:
    """Update the targets of the attempts. `settled`: in the order in which the attempts ended."""
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
            "paced": [_paced_at_the_end(ended) for ended in by_target.values()],
            "held_until": [utc(time_ms) if time_ms else None for time_ms in held_ms],
        },
    )


def _failures_at_the_end(ended: Sequence[Settled]) -> int:
    count = 0
    for one in ended:
        if one.verdict.paced is None:
            count = 0 if one.answer.delivered else count + 1
    return count


def _paced_at_the_end(ended: Sequence[Settled]) -> int:
    paced = 0
    for one in ended:
        paced = 0 if one.answer.delivered else max(paced, one.verdict.paced or 0)
    return paced


async def _disable(connection: AsyncConnection, settled: Settled, reason: str) -> bool:
    claimed = settled.claimed
    since = utc(claimed.created_ms) if reason == "exhausted" else None
    cursor = await connection.execute(
        QUERIES["disable_target"],
        {"target_id": claimed.target_id, "url": claimed.url, "reason": reason, "since": since},
    )
    return cursor.rowcount > 0


async def release(connection: AsyncConnection, claimed: Sequence[Claimed]) -> None:
    """Return unsent messages to the outbox, for the next sender."""
    await connection.execute(
        QUERIES["release"],
        {
            "ids": [one.message.delivery_id for one in claimed],
            "leases": [one.lease_id for one in claimed],
        },
    )
