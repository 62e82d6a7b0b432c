"""The history of rules: the texts of their versions, and how often each rule fired."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg import AsyncConnection
from psycopg.rows import class_row

from app.candles.validity import LATEST_MS
from app.database.rule_store import QUERIES
from app.times import utc


@dataclass(frozen=True, slots=True)
class RuleVersion:
    """A version of a rule: the fields whose change makes a new one."""

    version: int
    expression: str
    mode: str | None
    hold_s: int
    stored_at: datetime


@dataclass(frozen=True, slots=True)
class RuleActivity:
    """fired: number of alerts since the requested time. time, symbol, price: from the rule's newest alert of any time;
    None without an alert."""

    rule_type: str
    fired: int
    time: datetime | None
    symbol: str | None
    price: float | None


async def rule_versions(connection: AsyncConnection, rule_type: str) -> list[RuleVersion]:
    """Return the versions of a rule, also of a deleted one, newest first; empty for an unknown rule."""
    async with connection.cursor(row_factory=class_row(RuleVersion)) as cursor:
        await cursor.execute(QUERIES["rule_versions"], {"rule_type": rule_type})
        return await cursor.fetchall()


async def rule_activity(connection: AsyncConnection, since_ms: int) -> list[RuleActivity]:
    """Return one entry for each stored rule, by name. since_ms: UTC."""
    async with connection.cursor(row_factory=class_row(RuleActivity)) as cursor:
        wanted = {"since": utc(since_ms), "until": utc(LATEST_MS)}
        await cursor.execute(QUERIES["rule_activity"], wanted)
        return await cursor.fetchall()
