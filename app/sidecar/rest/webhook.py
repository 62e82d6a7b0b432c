"""/api/webhook: the target of the caller's webhook_url, and the deliveries to it.

The secret is in /api/settings, beside the URL.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, get_args
from uuid import UUID

import orjson
import structlog
from aiohttp import web

from app.clock import Clock
from app.errors import NoSuchWebhook
from app.sidecar.access.admission import caller_of
from app.sidecar.http.parameters import Parameters
from app.sidecar.http.problems import RequestError, unavailable
from app.sidecar.http.request_body import json_object
from app.sidecar.http.responses import private_json
from app.sidecar.state.database import Database, HistoryUnavailable
from app.webhooks.delivery.delivery_log import Attempt, Delivery, DeliveryLog, Status
from app.webhooks.delivery.trial import put_trial
from app.webhooks.targets.settings_targets import follow_settings
from app.webhooks.targets.store import DIGEST_MAX_S, OVERLAP_HOURS, Target, TargetStore

MOST_DELIVERIES: Final = 200
_DELIVERIES: Final = 50
_OVERLAP_MAX_HOURS: Final = 720

log = structlog.get_logger("sidecar.webhook")


class CallersTarget:
    """The caller's webhook: one target, and its deliveries."""

    def __init__(self, store: TargetStore, deliveries: DeliveryLog, target: Target) -> None:
        self.store = store
        self.deliveries = deliveries
        self.target = target


class WebhookEndpoint:
    """Every request is about the user in the token: no address and no body can name another user's target."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def get(self, request: web.Request) -> web.Response:
        Parameters(request.query, ())
        async with self._caller(request, "webhook") as caller:
            return _json(_target(caller.target))

    async def change(self, request: web.Request) -> web.Response:
        """Change `digest_s`, and with `enabled: true` enable the target that its receiver caused to be disabled."""
        Parameters(request.query, ())
        values = await json_object(request, ("digest_s", "enabled"))
        digest_s = values.get("digest_s")
        if "digest_s" in values and not _is_whole(digest_s, 0, DIGEST_MAX_S):
            raise _bad("digest_s", f"must be a whole number from 0 to {DIGEST_MAX_S}")
        if values.get("enabled", True) is not True:
            raise _bad(
                "enabled",
                "can only be set to true; set notification_enabled of the settings to false to disable it",
            )
        async with self._caller(request, "change_webhook") as caller:
            if digest_s is not None:
                await caller.store.set_digest(caller.target.id, digest_s)
            if "enabled" in values and caller.target.disabled_reason in ("gone", "exhausted"):
                await caller.store.enable(caller.target.id)
            return _json(_target(await caller.store.get(caller.target.id)))

    async def rotate(self, request: web.Request) -> web.Response:
        Parameters(request.query, ())
        hours = (await json_object(request, ("overlap_hours",))).get("overlap_hours", OVERLAP_HOURS)
        if not _is_whole(hours, 0, _OVERLAP_MAX_HOURS):
            raise _bad("overlap_hours", f"must be a whole number from 0 to {_OVERLAP_MAX_HOURS}")
        async with self._caller(request, "rotate_webhook_secret") as caller:
            secret = await caller.store.rotate_secret(caller.target.id, hours)
        log.info("webhook_secret_changed", target=str(caller.target.id))
        return _json({"secret": secret})

    async def test(self, request: web.Request) -> web.Response:
        """Queue a test message. The role that sends all others sends it, so that no other role needs a way out of the
        network."""
        Parameters(request.query, ())
        async with self._caller(request, "test_webhook") as caller:
            trial = await put_trial(
                caller.store.connection, caller.target.id, self._clock, caller.target.user_id
            )
        return _json({"delivery_id": str(trial)}, 202)

    async def list_deliveries(self, request: web.Request) -> web.Response:
        parameters = Parameters(request.query, ("limit", "status"))
        limit = parameters.whole_number("limit", least=1, most=MOST_DELIVERIES) or _DELIVERIES
        status: Any = parameters.choice("status", get_args(Status))
        async with self._caller(request, "webhook_deliveries") as caller:
            found = await caller.deliveries.newest(limit, caller.target.id, status)
        return _json({"deliveries": [_delivery(one) for one in found]})

    async def show_delivery(self, request: web.Request) -> web.Response:
        Parameters(request.query, ())
        delivery_id = _delivery_id(request)
        async with self._caller(request, "webhook_delivery") as caller:
            delivery, attempts = await caller.deliveries.get(delivery_id)
        return _json(_delivery(delivery) | {"log": [_attempt(one) for one in attempts]})

    async def redeliver(self, request: web.Request) -> web.Response:
        Parameters(request.query, ())
        delivery_id = _delivery_id(request)
        async with self._caller(request, "redeliver_webhook") as caller:
            await caller.deliveries.redeliver([delivery_id])
        return _json({"delivery_id": str(delivery_id)}, 202)

    @asynccontextmanager
    async def _caller(self, request: web.Request, operation: str) -> AsyncIterator[CallersTarget]:
        user_id = caller_of(request).user_id
        try:
            async with self._database.connection(operation) as connection:
                # the settings may be newer than the sender's last look at them
                await follow_settings(connection, self._clock.now_ms(), user_id)
                store = TargetStore(connection, self._clock, user_id)
                found = await store.all()
                if not found:
                    raise RequestError(
                        404, "no_webhook", "set webhook_url and notification_enabled in the settings"
                    )
                yield CallersTarget(store, DeliveryLog(connection, self._clock, user_id), found[0])
        except HistoryUnavailable:
            raise unavailable("webhooks") from None
        except NoSuchWebhook as error:
            raise RequestError(404, "no_such_webhook", str(error)) from None


def _delivery_id(request: web.Request) -> UUID:
    try:
        return UUID(request.match_info["delivery_id"])
    except ValueError:
        raise RequestError(404, "no_such_webhook", "no such delivery") from None


def _is_whole(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _bad(name: str, requirement: str) -> RequestError:
    return RequestError(400, "bad_field", f"{name}: {requirement}")


def _json(value: Mapping[str, object], status: int = 200) -> web.Response:
    return private_json(orjson.dumps(value), status)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _target(target: Target) -> dict[str, object]:
    return {
        "id": str(target.id),
        "host": target.url,
        "format": target.format,
        "digest_s": target.digest_s,
        "enabled": target.enabled,
        "disabled_reason": target.disabled_reason,
        "failures": target.failures,
        "held_until": _time(target.held_until),
        "last_success_at": _time(target.last_success_at),
        "previous_secret_until": _time(target.previous_secret_until),
        "pending": target.pending,
        "dead": target.dead,
    }


def _delivery(delivery: Delivery) -> dict[str, object]:
    return {
        "id": str(delivery.id),
        "message_id": delivery.message_id and f"msg_{delivery.message_id.hex}",
        "alert_id": str(delivery.alert_id),
        "seq": delivery.seq,
        "symbol": delivery.symbol,
        "rule_type": delivery.rule_type,
        "status": delivery.status,
        "attempts": delivery.attempts,
        "next_attempt_at": _time(delivery.due_at),
        "response_status": delivery.response_status,
        "error": delivery.error,
        "created_at": _time(delivery.created_at),
        "settled_at": _time(delivery.settled_at),
    }


def _attempt(attempt: Attempt) -> dict[str, object]:
    return {
        "attempt": attempt.attempt,
        "at": _time(attempt.at),
        "duration_ms": attempt.duration_ms,
        "response_status": attempt.response_status,
        "outcome": attempt.outcome,
    }
