"""GET and POST /api/settings: the caller's choice of alerts, and where to send them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson
import structlog
from aiohttp import web

from app.candles.symbols import is_symbol
from app.clock import Clock
from app.database.user_settings import (
    ANY,
    SettingsChange,
    Subscription,
    UserSettings,
    UserWebhook,
    change_user_settings,
    read_user_settings,
)
from app.errors import BadWebhookTarget
from app.sidecar.access.admission import caller_of
from app.sidecar.http.parameters import RULE_TYPE, Parameters
from app.sidecar.http.problems import RequestError, unavailable
from app.sidecar.http.request_body import json_object
from app.sidecar.http.responses import private_json
from app.sidecar.state.database import Database, HistoryUnavailable
from app.sidecar.state.rules import RuleList
from app.times import rfc3339, utc_ms
from app.webhooks.formats import checked_format
from app.webhooks.targets.settings_targets import follow_settings

FIELDS: Final = ("selected_alerts", "webhook_url", "notification_enabled", "subscriptions")
READ_ONLY: Final = ("user_id", "updated_at", "webhook")
MOST_SELECTED: Final = 200
MOST_SUBSCRIPTIONS: Final = 500

log = structlog.get_logger("sidecar.settings")


class SettingsEndpoint:
    """Only the caller's settings can be named: neither the address nor the body contains a user."""

    def __init__(self, database: Database, rules: RuleList, clock: Clock) -> None:
        self._database = database
        self._rules = rules
        self._clock = clock

    async def get(self, request: web.Request) -> web.Response:
        Parameters(request.query, ())
        user_id = caller_of(request).user_id
        try:
            async with self._database.connection("user_settings") as connection:
                found = await read_user_settings(connection, user_id)
        except HistoryUnavailable:
            raise unavailable("the settings") from None
        return private_json(orjson.dumps(_answer(user_id, found)))

    async def change(self, request: web.Request) -> web.Response:
        """Change the settings; fields missing in the body stay as they are."""
        Parameters(request.query, ())
        user_id = caller_of(request).user_id
        change = self._change(await json_object(request, FIELDS, READ_ONLY))
        try:
            await self._check_rules(change)
            async with self._database.connection("change_user_settings") as connection:
                async with connection.transaction():
                    await change_user_settings(connection, user_id, change)
                    # the webhooks role follows the settings too; here the caller learns the secret at once
                    await follow_settings(connection, self._clock.now_ms(), user_id)
                found = await read_user_settings(connection, user_id)
        except HistoryUnavailable:
            raise unavailable("the settings") from None
        log.info("settings_changed", user=user_id)
        return private_json(orjson.dumps(_answer(user_id, found)))

    def _change(self, values: Mapping[str, Any]) -> SettingsChange:
        enabled = values.get("notification_enabled")
        if "notification_enabled" in values and not isinstance(enabled, bool):
            raise _bad("notification_enabled", "must be true or false")
        selected = values.get("selected_alerts")
        if "selected_alerts" in values and not _are_rules(selected):
            raise _bad("selected_alerts", f"must be a list of at most {MOST_SELECTED} rules, or of {ANY!r}")
        url = values.get("webhook_url")
        if url is not None:
            self._check_url(url)
        return SettingsChange(
            selected_alerts=None if selected is None else tuple(dict.fromkeys(selected)),
            webhook_url=url,
            forget_webhook="webhook_url" in values and url is None,
            notification_enabled=enabled,
            subscriptions=_subscriptions(values["subscriptions"]) if "subscriptions" in values else None,
        )

    def _check_url(self, url: object) -> None:
        if not isinstance(url, str):
            raise _bad("webhook_url", "must be a URL, or null for none")
        try:
            checked_format(url)
        except BadWebhookTarget as error:
            raise _bad("webhook_url", str(error)) from None

    async def _check_rules(self, change: SettingsChange) -> None:
        """Reject unknown rule names: they would never fire."""
        named = set(change.selected_alerts or ()) | {one.rule_type for one in change.subscriptions or ()}
        if named <= {ANY}:
            return
        if unknown := sorted(named - await self._rules.names() - {ANY}):
            raise RequestError(400, "unknown_rule", f"unknown rule {unknown[0]}")


def _are_rules(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MOST_SELECTED
        and all(isinstance(item, str) and _is_rule(item) for item in value)
    )


def _is_rule(text: str) -> bool:
    return text == ANY or RULE_TYPE.fullmatch(text) is not None


def _subscriptions(value: object) -> tuple[Subscription, ...]:
    if not isinstance(value, list) or len(value) > MOST_SUBSCRIPTIONS:
        raise _bad("subscriptions", f"must be a list of at most {MOST_SUBSCRIPTIONS}")
    return tuple(dict.fromkeys(_subscription(item) for item in value))


def _subscription(value: object) -> Subscription:
    if not isinstance(value, dict) or not {"rule_type"} <= set(value) <= {"rule_type", "symbol"}:
        raise _bad("subscriptions", "each must be an object of rule_type and, if not for all, symbol")
    rule_type, symbol = value["rule_type"], value.get("symbol", ANY)
    if not isinstance(rule_type, str) or not _is_rule(rule_type):
        raise _bad("subscriptions", f"rule_type must be a rule, or {ANY!r}")
    if not isinstance(symbol, str) or not (symbol == ANY or is_symbol(symbol)):
        raise _bad("subscriptions", f"symbol must be a symbol such as BTCUSDT, or {ANY!r}")
    return Subscription(rule_type, symbol)


def _bad(name: str, requirement: str) -> RequestError:
    return RequestError(400, "bad_field", f"{name}: {requirement}")


def _answer(user_id: str, found: UserSettings) -> dict[str, object]:
    return {
        "user_id": user_id,
        "selected_alerts": found.selected_alerts,
        "webhook_url": found.webhook_url,
        "notification_enabled": found.notification_enabled,
        "subscriptions": [{"rule_type": one.rule_type, "symbol": one.symbol} for one in found.subscriptions],
        "updated_at": _time(found.updated_at),
        "webhook": found.webhook and _webhook(found.webhook),
    }


def _webhook(webhook: UserWebhook) -> dict[str, object]:
    return {
        "format": webhook.format,
        "secret": webhook.secret,
        "enabled": webhook.enabled,
        "disabled_reason": webhook.disabled_reason,
        "failures": webhook.failures,
        "last_success": _time(webhook.last_success_at),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(utc_ms(moment))
