"""The webhook_url of each user's settings as a target with a secret and a state of its own.

The settings are the user's word, written by the API; the target follows them. It is created, changed, switched off and
on here, from nothing but the settings of the same user.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection

from app.errors import BadWebhookTarget
from app.webhooks.formats import checked_format
from app.webhooks.outbox import QUERIES, moment
from app.webhooks.signing import new_secret
from app.webhooks.targets import AllowedHosts


async def follow_settings(
    connection: AsyncConnection, allowed: AllowedHosts, now_ms: int, user_id: str | None = None
) -> None:
    """Brings the targets of all users, or of one, to what their settings say now. Cheap when nothing changed."""
    now, user = moment(now_ms), {"user_id": user_id}
    async with connection.transaction():
        cursor = await connection.execute(QUERIES["users_without_target"], user)
        if missing := await cursor.fetchall():
            await connection.execute(QUERIES["put_user_target"], {"now": now, **_columns(missing, allowed)})
        await connection.execute(QUERIES["follow_user_switches"], user | {"now": now})


def _columns(users: Sequence[tuple[Any, ...]], allowed: AllowedHosts) -> dict[str, list[Any]]:
    """`users`: id and URL of each. A URL that cannot be a target makes one that is off, so that its owner is told."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("user_ids", "urls", "formats", "secrets", "faults")
    }
    for user_id, url in users:
        try:
            form, fault = checked_format(url, allowed), None
        except BadWebhookTarget:
            form, fault = "json", "bad_url"
        for name, value in zip(columns, (user_id, url, form, new_secret(), fault), strict=True):
            columns[name].append(value)
    return columns
