"""Targets as people manage them: listed, added, switched on and off, their secrets shown and changed.

A store made for a user sees and changes only that user's target. Operators' stores
see all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import kwargs_row, scalar_row

from app.clock import Clock
from app.errors import BadWebhookTarget, NoSuchWebhook
from app.times import utc
from app.webhooks.delivery.outbox import QUERIES
from app.webhooks.formats import check_format, detect_format
from app.webhooks.short_ids import bounds, only_one
from app.webhooks.targets.signing import new_secret
from app.webhooks.targets.urls import AllowedHosts, check_webhook_url, webhook_url

DIGEST_MAX_S: Final = 3_600
OVERLAP_HOURS: Final = 24
"""How long the old secret signs beside the new one."""
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class NewTarget:
    """format None: detected from the URL. rule_types, symbols, severities: empty lets all pass. digest_s 0: no
    digests."""

    url: str = field(repr=False)
    name: str = ""
    format: str | None = None
    rule_types: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    digest_s: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """`url` as far as it may be shown: its host. `pending`, `dead`: messages and deliveries in the outbox.

    previous_secret_until: until when a secret that was replaced still signs.
    """

    id: UUID
    user_id: str | None
    from_settings: bool
    name: str
    url: str
    format: str
    rule_types: tuple[str, ...]
    symbols: tuple[str, ...]
    severities: tuple[str, ...]
    digest_s: int
    enabled: bool
    disabled_reason: str | None
    failures: int
    held_until: datetime | None
    last_success_at: datetime | None
    previous_secret_until: datetime | None
    created_at: datetime
    pending: int
    dead: int


class TargetStore:
    """Manages targets over the caller's connection. Methods raise psycopg.Error, and NoSuchWebhook for an id that is
    not there, or not the caller's."""

    def __init__(self, connection: AsyncConnection, clock: Clock, user_id: str | None = None) -> None:
        """user_id: the owner; None for operators."""
        self.connection = connection
        self._clock = clock
        self._user_id = user_id

    async def all(self) -> list[Target]:
        return await self._targets(None)

    async def find(self, given: str) -> UUID:
        """Return the id of the target whose id is `given` or begins with it. Raises NoSuchWebhook, ValueError."""
        first, last = bounds(given)
        return only_one(
            "target", given, [target.id for target in await self.all() if first <= target.id <= last]
        )

    async def get(self, target_id: UUID) -> Target:
        found = await self._targets(target_id)
        if not found:
            raise _no_such(target_id)
        return found[0]

    async def add(self, target: NewTarget, allowed: AllowedHosts) -> Target:
        """Add an operator's target; users set their URL in their settings. Raises BadWebhookTarget."""
        if self._user_id is not None:
            raise BadWebhookTarget("the target of a user is the webhook_url of the settings")
        check_webhook_url(target.url, allowed)
        form = target.format or detect_format(target.url)
        check_format(target.url, form)
        _check_digest(target.digest_s)
        given = {
            "name": target.name,
            "url": target.url,
            "format": form,
            "secret": new_secret(),
            "rule_types": list(target.rule_types),
            "symbols": list(target.symbols),
            "severities": list(target.severities),
            "digest_s": target.digest_s,
        }
        return await self.get(await self._value("add_target", given))

    async def remove(self, target_id: UUID) -> None:
        """Remove a target with all its deliveries. Not for the targets of users and settings, which would come back."""
        await self._change("remove_target", target_id)

    async def enable(self, target_id: UUID) -> None:
        """Enable a target; its waiting messages and new alerts are sent."""
        await self._change("enable_target", target_id)

    async def switch_off(self, target_id: UUID) -> None:
        """Disable an operator's target; its waiting messages stay. A user's settings disable the user's own."""
        await self._change("switch_off", target_id)

    async def set_digest(self, target_id: UUID, digest_s: int) -> None:
        """Set the digest for future alerts. 0: one message per alert."""
        _check_digest(digest_s)
        await self._change("set_digest", target_id, digest_s=digest_s)

    async def secret(self, target_id: UUID) -> str:
        """Return the secret with which the receiver verifies signatures."""
        return str(await self._value("secret", {"id": target_id}))

    async def rotate_secret(self, target_id: UUID, overlap_hours: int = OVERLAP_HOURS) -> str:
        """Return the new secret. For `overlap_hours`, messages are signed with the old secret too."""
        secret = new_secret()
        until = utc(self._clock.now_ms() + overlap_hours * _HOUR_MS)
        await self._change("rotate_secret", target_id, secret=secret, until=until)
        return secret

    async def _targets(self, target_id: UUID | None) -> list[Target]:
        async with self.connection.cursor(row_factory=kwargs_row(_target)) as cursor:
            await cursor.execute(QUERIES["targets"], {"user_id": self._user_id, "id": target_id})
            return await cursor.fetchall()

    async def _value(self, query: str, given: Mapping[str, Any]) -> Any:
        """Return the only value of the only row."""
        async with self.connection.cursor(row_factory=scalar_row) as cursor:
            await cursor.execute(QUERIES[query], {**self._common(), **given})
            value = await cursor.fetchone()
        if value is None:
            raise _no_such(given["id"])
        return value

    async def _change(self, query: str, target_id: UUID, **given: Any) -> None:
        cursor = await self.connection.execute(QUERIES[query], {**self._common(), "id": target_id, **given})
        if cursor.rowcount == 0:
            raise _no_such(target_id)

    def _common(self) -> dict[str, object]:
        return {"user_id": self._user_id, "now": utc(self._clock.now_ms())}


def _target(
    url: str, rule_types: list[str], symbols: list[str], severities: list[str], **others: Any
) -> Target:
    """Return the target of a row. others: columns that are values of a Target as they are."""
    parsed = webhook_url(url)
    return Target(
        url=f"{parsed.scheme}://{parsed.host}/…",
        rule_types=tuple(rule_types),
        symbols=tuple(symbols),
        severities=tuple(severities),
        **others,
    )


def _check_digest(digest_s: int) -> None:
    if not 0 <= digest_s <= DIGEST_MAX_S:
        raise BadWebhookTarget(f"a digest covers 1 to {DIGEST_MAX_S} seconds; 0 disables it")


def _no_such(target_id: UUID) -> NoSuchWebhook:
    return NoSuchWebhook(f"no webhook target {target_id} that can be changed this way")
