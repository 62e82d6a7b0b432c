"""Targets that settings name: SCREENER_WEBHOOK_URL of the deployment, which gets every alert, and the webhook_url of
each user, with a secret and a state of its own.

The operator and the users decide in the settings; the targets follow them. They are created, changed, switched off and
on here, a user's target only from the settings of the same user.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection

from app.errors import BadWebhookTarget, SettingsError
from app.times import utc
from app.webhooks.delivery.outbox import QUERIES
from app.webhooks.formats import checked_format
from app.webhooks.targets.signing import new_secret
from app.webhooks.targets.urls import NONE_BUT_PUBLIC, AllowedHosts


async def follow_settings(
    connection: AsyncConnection,
    now_ms: int,
    user_id: str | None = None,
    allowed: AllowedHosts = NONE_BUT_PUBLIC,
) -> None:
    """Bring the targets of all users, or of one, in line with their settings. Cheap without changes.

    allowed: hosts trusted beyond the public internet, for targets of operators only.
    """
    now, user = utc(now_ms), {"user_id": user_id}
    async with connection.transaction():
        cursor = await connection.execute(QUERIES["users_without_target"], user)
        if missing := await cursor.fetchall():
            await connection.execute(QUERIES["put_user_target"], {"now": now, **_columns(missing, allowed)})
        await connection.execute(QUERIES["follow_user_switches"], user | {"now": now})


def _columns(users: Sequence[tuple[Any, ...]], allowed: AllowedHosts) -> dict[str, list[Any]]:
    """Return the columns of new targets. `users`: id and URL of each. A URL that cannot be a target makes a target that
    is off, so that its owner is told."""
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


async def put_settings_target(
    connection: AsyncConnection, url: str | None, allowed: AllowedHosts, now_ms: int
) -> None:
    """Add the deployment's target, give it another URL (and with it another secret), or disable it for None.

    Raises SettingsError if the URL cannot be a target.
    """
    if url is None:
        await connection.execute(QUERIES["drop_settings_target"])
        return
    try:
        form = checked_format(url, allowed)
    except BadWebhookTarget as error:
        raise SettingsError(f"SCREENER_WEBHOOK_URL: {error}") from None
    given = {"url": url, "format": form, "secret": new_secret(), "now": utc(now_ms)}
    await connection.execute(QUERIES["put_settings_target"], given)
