"""GET and POST /api/settings: the caller's own settings; a POST replaces them as a whole."""

from __future__ import annotations

from typing import Final

import structlog
from aiohttp import web

from app.clock import Clock
from app.database.user_settings import ANY, SettingsChange, change_user_settings, read_user_settings
from app.errors import BadWebhookTarget
from app.sidecar.access.admission import caller_of
from app.sidecar.http.parameters import RULE_TYPE
from app.sidecar.http.problems import RequestError, unavailable
from app.sidecar.http.request_body import any_json_object
from app.sidecar.legacy.reads import json_response
from app.sidecar.state.database import Database, HistoryUnavailable
from app.webhooks.formats import checked_format
from app.webhooks.targets.settings_targets import follow_settings

_MOST_SELECTED: Final = 200

log = structlog.get_logger("sidecar.settings")


class SettingsEndpoint:
    """Subscriptions, which the earlier system does not have, stay as they are."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def get(self, request: web.Request) -> web.Response:
        user_id = caller_of(request).user_id
        try:
            async with self._database.connection("user_settings") as connection:
                found = await read_user_settings(connection, user_id)
        except HistoryUnavailable:
            raise unavailable("the settings") from None
        # as in the earlier gateway, notification is on for a user who set nothing: without a URL it has no effect
        enabled = found.notification_enabled or found.updated_at is None
        return json_response(_document(list(found.selected_alerts), found.webhook_url, enabled))

    async def replace(self, request: web.Request) -> web.Response:
        """Replace selected alerts, webhook and switch; a missing field is emptied or switched off. Names of rules that
        do not exist are kept: they select nothing."""
        user_id = caller_of(request).user_id
        given = await any_json_object(request)
        selected, enabled = given.get("selected_alerts") or [], given.get("notification_enabled") or False
        if not _are_rules(selected):
            raise _invalid(f"selected_alerts: must be a list of at most {_MOST_SELECTED} rules")
        if not isinstance(enabled, bool):
            raise _invalid("notification_enabled: must be true or false")
        url = _checked_url(given.get("webhook_url"))
        change = SettingsChange(
            selected_alerts=tuple(dict.fromkeys(selected)),
            webhook_url=url,
            forget_webhook=url is None,
            notification_enabled=enabled,
        )
        try:
            async with (
                self._database.connection("change_user_settings") as connection,
                connection.transaction(),
            ):
                await change_user_settings(connection, user_id, change)
                await follow_settings(connection, self._clock.now_ms(), user_id)
        except HistoryUnavailable:
            raise unavailable("the settings") from None
        log.info("settings_changed", user=user_id)
        return json_response({"success": True} | _document(selected, url, enabled))


def _document(selected: list[str], url: str | None, enabled: bool) -> dict[str, object]:
    return {"selected_alerts": selected, "webhook_url": url, "notification_enabled": enabled}


def _are_rules(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MOST_SELECTED
        and all(isinstance(item, str) and (item == ANY or RULE_TYPE.fullmatch(item)) for item in value)
    )


def _checked_url(url: object) -> str | None:
    if url is None or url == "":
        return None
    if not isinstance(url, str):
        raise _invalid("webhook_url: must be a URL, or null for none")
    try:
        checked_format(url)
    except BadWebhookTarget as error:
        raise _invalid(f"webhook_url: {error}") from None
    return url


def _invalid(message: str) -> RequestError:
    return RequestError(400, "invalid_json", message)
