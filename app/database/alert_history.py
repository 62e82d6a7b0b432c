"""The stored alerts: pages for clients, and the last fires for cooldowns.

`metrics` count the invalid rows that are left out; a command passes None.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import orjson
from psycopg import AsyncConnection
from psycopg.rows import class_row

from app.candles.validity import EARLIEST_MS, LATEST_MS
from app.database.named_queries import named_queries
from app.database.unreadable import tell
from app.errors import BadInput
from app.rules.alert import Alert
from app.rules.alert_faults import alert_fault
from app.telemetry import DatabaseMetrics
from app.times import utc

_QUERIES = named_queries("reads.sql")


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """The alerts to read. None does not filter; a list matches if any entry does. since_ms <= alert < until_ms, UTC.
    shadow: by default only alerts that were sent."""

    symbols: Sequence[str] | None = None
    rule_types: Sequence[str] | None = None
    severities: Sequence[str] | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    backfilled: bool | None = None
    shadow: bool | None = False


@dataclass(frozen=True, slots=True)
class AlertPage:
    """`next_cursor` continues with older alerts; it is None on the last page."""

    alerts: list[Alert]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class AlertRow:
    """A row of `alert_history` as it is stored; plain SQL may have written it. time: None for a time that Python
    cannot represent."""

    id: UUID
    time: datetime | None
    seq: int
    symbol: str
    rule_type: str
    rule_version: int
    severity: str
    description: str
    price: float | None
    metadata: object
    timings: object
    backfilled: bool
    shadow: bool


async def alerts_page(
    connection: AsyncConnection,
    wanted: AlertFilter,
    limit: int,
    cursor: str | None = None,
    metrics: DatabaseMetrics | None = None,
) -> AlertPage:
    """Return at most `limit` alerts, newest first, from `cursor` on.

    Following the cursors gives each alert that existed at the first page exactly once, despite inserts
    meanwhile. Raises BadInput("bad_cursor") for a cursor that no page gave.
    """
    before_time, before_id = _decode_cursor(cursor) if cursor is not None else (None, None)
    parameters = {
        **_one_or_many("symbol", wanted.symbols),
        **_one_or_many("rule_type", wanted.rule_types),
        "severities": _list(wanted.severities),
        "backfilled": wanted.backfilled,
        "shadow": wanted.shadow,
        "since": _moment(max(wanted.since_ms or EARLIEST_MS, EARLIEST_MS)),
        "until": _moment(min(LATEST_MS if wanted.until_ms is None else wanted.until_ms, LATEST_MS)),
        "before_time": before_time,
        "before_id": before_id,
    }
    if cursor is None:
        await _tell_of_impossible_times(connection, metrics)
    found: list[Alert] = []
    while True:
        rows = await _alert_rows(connection, "alerts_page", parameters | {"rows": limit - len(found) + 1})
        page, more = rows[: limit - len(found)], len(rows) > limit - len(found)
        found += _readable(page, metrics)
        if not more:
            return AlertPage(found, None)
        if len(found) == limit:
            return AlertPage(found, _encode_cursor(page[-1]))
        parameters |= {"before_time": page[-1].time, "before_id": page[-1].id}


async def alerts_since(
    connection: AsyncConnection, seq: int, limit: int, metrics: DatabaseMetrics | None = None
) -> list[Alert]:
    """Return at most `limit` alerts after `seq`, in the order of seq; fewer only if there are no more."""
    found: list[Alert] = []
    while len(found) < limit:
        wanted = limit - len(found)
        rows = await _alert_rows(connection, "alerts_since", {"seq": seq, "rows": wanted})
        found += _readable(rows, metrics)
        if len(rows) < wanted:
            break
        seq = rows[-1].seq
    return found


async def latest_seq(connection: AsyncConnection) -> int | None:
    """Return the highest stored seq; None without alerts."""
    row = await (await connection.execute(_QUERIES["latest_seq"])).fetchone()
    return row[0] if row else None


async def last_fires(
    connection: AsyncConnection, since_ms: int, until_ms: int, mode: str
) -> dict[tuple[str, str], int]:
    """Return (rule_type, symbol) -> the event time (UTC ms), as cooldowns compare it, of the last stored alert with
    since_ms <= alert < until_ms. mode: for rules without their own mode."""
    wanted = {"since": _moment(since_ms), "until": _moment(until_ms), "mode": mode}
    rows = await (await connection.execute(_QUERIES["last_fires"], wanted)).fetchall()
    return {(rule_type, symbol): time_ms for rule_type, symbol, time_ms in rows}


async def oldest_seq(connection: AsyncConnection) -> int | None:
    """Return the lowest stored seq; None without alerts."""
    row = await (await connection.execute(_QUERIES["oldest_seq"])).fetchone()
    return row[0] if row else None


async def alert_seq(connection: AsyncConnection, identifier: str) -> int | None:
    """Return the seq of the alert with this id, which must be a UUID; None if not stored."""
    row = await (await connection.execute(_QUERIES["alert_seq"], {"id": identifier})).fetchone()
    return row[0] if row else None


async def _alert_rows(
    connection: AsyncConnection, query: str, parameters: Mapping[str, object]
) -> list[AlertRow]:
    async with connection.cursor(row_factory=class_row(AlertRow)) as cursor:
        await cursor.execute(_QUERIES[query], parameters)
        return await cursor.fetchall()


async def _tell_of_impossible_times(connection: AsyncConnection, metrics: DatabaseMetrics | None) -> None:
    bounds = {"since": _moment(EARLIEST_MS), "until": _moment(LATEST_MS)}
    cursor = await connection.execute(_QUERIES["alerts_out_of_time"], bounds)
    for (identifier,) in await cursor.fetchall():
        tell("alert_history", str(identifier), "its time is before 2010 or after 2100", metrics)


def _readable(rows: Sequence[AlertRow], metrics: DatabaseMetrics | None) -> list[Alert]:
    """Return the alerts in valid rows; count and log the other rows."""
    found = []
    for row in rows:
        document = None if row.time is None else _document(row, row.time)
        fault = "its time is invalid" if document is None else alert_fault(document)
        if document is not None and fault is None:
            found.append(Alert.from_dict(document))
        else:
            tell("alert_history", str(row.id), str(fault), metrics)
    return found


def _document(row: AlertRow, time: datetime) -> dict[str, object]:
    """Return the JSON object of a stored alert."""
    return {
        "id": str(row.id),
        "seq": row.seq,
        "symbol": row.symbol,
        "rule_type": row.rule_type,
        "rule_version": row.rule_version,
        "severity": row.severity,
        "description": row.description,
        "timestamp": time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "price": row.price,
        "metadata": row.metadata,
        "timings": row.timings,
        "backfilled": row.backfilled,
        **({"shadow": True} if row.shadow else {}),
    }


def _encode_cursor(row: AlertRow) -> str:
    assert row.time is not None
    position = orjson.dumps([row.time.isoformat(), str(row.id)])
    return base64.urlsafe_b64encode(position).decode().rstrip("=")


def _decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    try:
        time, identifier = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        moment = datetime.fromisoformat(time)
        if moment.tzinfo is None:
            raise ValueError("no time zone")
        return moment, UUID(identifier)
    except (binascii.Error, ValueError, TypeError, AttributeError) as error:
        raise BadInput("bad_cursor", "cursor: use the unchanged next_cursor of an earlier page") from error


def _moment(time_ms: int | None) -> datetime | None:
    return None if time_ms is None else utc(time_ms)


def _one_or_many(name: str, values: Sequence[str] | None) -> dict[str, str | list[str] | None]:
    one = values[0] if values is not None and len(values) == 1 else None
    return {name: one, f"{name}s": None if one is not None else _list(values)}


def _list(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)
