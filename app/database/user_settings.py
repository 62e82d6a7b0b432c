"""The alert choices of each user: the tables `user_settings` and `user_alert_subscriptions`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import AsyncConnection

from app.database.named_queries import named_queries

_QUERIES = named_queries("users.sql")

ANY: str = "*"
"""Stands for every rule among `selected_alerts`, and for every symbol in a subscription."""


@dataclass(frozen=True, slots=True)
class Subscription:
    rule_type: str
    symbol: str = ANY


@dataclass(frozen=True, slots=True)
class UserWebhook:
    """State of a user's webhook. secret: the key that signs its messages. disabled_reason: None while enabled."""

    format: str
    secret: str
    enabled: bool
    disabled_reason: str | None
    failures: int
    last_success_at: datetime | None


@dataclass(frozen=True, slots=True)
class UserSettings:
    """updated_at: None for a user without settings. webhook: None until one was set and notification enabled."""

    selected_alerts: tuple[str, ...] = ()
    webhook_url: str | None = None
    notification_enabled: bool = False
    subscriptions: tuple[Subscription, ...] = ()
    updated_at: datetime | None = None
    webhook: UserWebhook | None = None


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """None leaves a field as it is; `forget_webhook` deletes the address."""

    selected_alerts: Sequence[str] | None = None
    webhook_url: str | None = None
    forget_webhook: bool = False
    notification_enabled: bool | None = None
    subscriptions: Sequence[Subscription] | None = None


async def read_user_settings(connection: AsyncConnection, user_id: str) -> UserSettings:
    wanted = {"user_id": user_id}
    row = await (await connection.execute(_QUERIES["user_settings"], wanted)).fetchone()
    if row is None:
        return UserSettings()
    subscriptions = await (await connection.execute(_QUERIES["user_subscriptions"], wanted)).fetchall()
    target = wanted | {"webhook_url": row[1]}
    webhook = await (await connection.execute(_QUERIES["user_webhook"], target)).fetchone()
    return UserSettings(
        selected_alerts=tuple(row[0]),
        webhook_url=row[1],
        notification_enabled=row[2],
        subscriptions=tuple(Subscription(*found) for found in subscriptions),
        updated_at=row[3],
        webhook=UserWebhook(*webhook) if webhook else None,
    )


async def change_user_settings(connection: AsyncConnection, user_id: str, change: SettingsChange) -> None:
    """Apply the whole change or no part of it."""
    async with connection.transaction():
        values = {
            "user_id": user_id,
            "selected_alerts": None if change.selected_alerts is None else list(change.selected_alerts),
            "webhook_url": change.webhook_url,
            "forget_webhook": change.forget_webhook,
            "notification_enabled": change.notification_enabled,
        }
        await connection.execute(_QUERIES["change_user_settings"], values)
        if change.subscriptions is not None:
            wanted = {
                "user_id": user_id,
                "rule_types": [one.rule_type for one in change.subscriptions],
                "symbols": [one.symbol for one in change.subscriptions],
            }
            await connection.execute(_QUERIES["replace_user_subscriptions"], wanted)
