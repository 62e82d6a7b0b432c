"""Targets as people manage them: listed, added, switched on and off, their secrets shown and changed.

A store made for a user sees and changes that user's target and no other, as if there were none. Operators' stores
see all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from yarl import URL

from app.clock import Clock
from app.errors import BadWebhookTarget, NoSuchWebhook
from app.settings import Settings
from app.webhooks.formats import Format, check_format, detect_format
from app.webhooks.outbox import QUERIES, moment
from app.webhooks.signing import new_secret
from app.webhooks.targets import AllowedHosts, check_webhook_url

DIGEST_MAX_S: Final = 3_600
OVERLAP_HOURS: Final = 24
"""How long the old secret signs beside the new one."""
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class NewTarget:
    """format None: by the URL. rule_types, symbols, severities: empty lets all pass. digest_s 0: no digests."""

    url: str = field(repr=False)
    name: str = ""
    format: Format | None = None
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
    format: Format
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
    """On a connection that the caller keeps. Methods raise psycopg.Error, and NoSuchWebhook for an id that is not
    there, or not the caller's."""

    def __init__(
        self, connection: AsyncConnection, settings: Settings, clock: Clock, user_id: str | None = None
    ) -> None:
        """user_id: on whose behalf; None for operators."""
        self.connection = connection
        self._allowed = AllowedHosts.of(settings)
        self._clock = clock
        self._user_id = user_id

    async def all(self) -> list[Target]:
        return await self._targets(None)

    async def get(self, target_id: UUID) -> Target:
        found = await self._targets(target_id)
        if not found:
            raise _no_such(target_id)
        return found[0]

    async def add(self, target: NewTarget) -> Target:
        """For operators; users set their URL in their settings. Raises BadWebhookTarget."""
        if self._user_id is not None:
            raise BadWebhookTarget("the target of a user is the webhook_url of the settings")
        check_webhook_url(target.url, self._allowed)
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
        row = await self._row("add_target", given)
        return await self.get(row["id"])

    async def remove(self, target_id: UUID) -> None:
        """With all its deliveries. Not for the targets of users and settings, which would come back."""
        await self._change("remove_target", target_id)

    async def enable(self, target_id: UUID) -> None:
        """What waited for it is sent again, and new alerts are."""
        await self._change("enable_target", target_id)

    async def switch_off(self, target_id: UUID) -> None:
        """For operators' targets; what waits for it stays. A user's settings switch the user's own."""
        await self._change("switch_off", target_id)

    async def set_digest(self, target_id: UUID, digest_s: int) -> None:
        """For alerts to come. 0: a message for each."""
        _check_digest(digest_s)
        await self._change("set_digest", target_id, digest_s=digest_s)

    async def secret(self, target_id: UUID) -> str:
        """What the receiver verifies signatures with."""
        return str((await self._row("secret", {"id": target_id}))["secret"])

    async def rotate_secret(self, target_id: UUID, overlap_hours: int = OVERLAP_HOURS) -> str:
        """The new secret. Messages are signed with the old one too for so long."""
        secret = new_secret()
        until = moment(self._clock.now_ms() + overlap_hours * _HOUR_MS)
        await self._change("rotate_secret", target_id, secret=secret, until=until)
        return secret

    async def _targets(self, target_id: UUID | None) -> list[Target]:
        async with self.connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(QUERIES["targets"], {"user_id": self._user_id, "id": target_id})
            return [_target(row) for row in await cursor.fetchall()]

    async def _row(self, query: str, given: Mapping[str, Any]) -> dict[str, Any]:
        async with self.connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(QUERIES[query], {**self._common(), **given})
            row = await cursor.fetchone()
        if row is None:
            raise _no_such(given["id"])
        return row

    async def _change(self, query: str, target_id: UUID, **given: Any) -> None:
        cursor = await self.connection.execute(QUERIES[query], {**self._common(), "id": target_id, **given})
        if cursor.rowcount == 0:
            raise _no_such(target_id)

    def _common(self) -> dict[str, Any]:
        return {"user_id": self._user_id, "now": moment(self._clock.now_ms())}


def _target(row: dict[str, Any]) -> Target:
    parsed = URL(row["url"])
    columns: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in row.items()
    }
    return Target(**columns | {"url": f"{parsed.scheme}://{parsed.host}/…"})


def _check_digest(digest_s: int) -> None:
    if not 0 <= digest_s <= DIGEST_MAX_S:
        raise BadWebhookTarget(f"a digest gathers for 1 to {DIGEST_MAX_S} seconds; 0 is none")


def _no_such(target_id: UUID) -> NoSuchWebhook:
    return NoSuchWebhook(f"there is no webhook target {target_id} that could be changed so")
