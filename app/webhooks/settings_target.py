"""The target that the deployment names in SCREENER_WEBHOOK_URL: it gets every alert."""

from __future__ import annotations

from psycopg import AsyncConnection

from app.errors import BadWebhookTarget, SettingsError
from app.webhooks.formats import checked_format
from app.webhooks.outbox import QUERIES, moment
from app.webhooks.signing import new_secret
from app.webhooks.targets import AllowedHosts


async def put_settings_target(
    connection: AsyncConnection, url: str | None, allowed: AllowedHosts, now_ms: int
) -> None:
    """Adds it, gives it another URL (and with that another secret), or switches it off for None.

    Raises SettingsError if it cannot be a target.
    """
    if url is None:
        await connection.execute(QUERIES["drop_settings_target"])
        return
    try:
        form = checked_format(url, allowed)
    except BadWebhookTarget as error:
        raise SettingsError(f"SCREENER_WEBHOOK_URL: {error}") from None
    given = {"url": url, "format": form, "secret": new_secret(), "now": moment(now_ms)}
    await connection.execute(QUERIES["put_settings_target"], given)
