"""JSON for programs: `{"type", "timestamp", "data"}` after the Standard Webhooks convention."""

from __future__ import annotations

from typing import Final, TypedDict

from yarl import URL

from app.rules.alert import Alert
from app.webhooks.delivery.message import Message
from app.webhooks.formats import alert_text
from app.webhooks.formats.webhook_format import WebhookFormat

_TYPES: Final = {"alert": "alert.fired", "digest": "alert.digest", "test": "webhook.test"}


class ShortAlert(TypedDict):
    """An alert without description, metadata and timings."""

    id: str
    seq: int | None
    symbol: str
    rule_type: str
    rule_version: int
    severity: str
    timestamp: str
    price: float | None


class Digest(TypedDict):
    """alerts: as many as there is room for; `omitted` more are counted only."""

    count: int
    omitted: int
    alerts: list[ShortAlert]


class StandardBody(TypedDict):
    """data: the alert as the API gives it or, without room for it, a shortened one; for a digest, a `Digest`."""

    type: str
    timestamp: str
    data: Digest | dict[str, object]


class Standard(WebhookFormat):
    name = "json"
    signed = True

    def takes(self, url: URL) -> bool:
        """Return True: it takes every URL that no other format takes."""
        return True

    def body(self, message: Message, room: int) -> StandardBody:
        """`data` is the alert as the API gives it, or `{count, omitted, alerts}` with short alerts for a digest.

        Without room an alert comes with empty metadata and `"truncated": true`.
        """
        data: Digest | dict[str, object]
        if message.kind == "digest":
            named = message.alerts[:room]
            omitted = len(message.alerts) - len(named)
            data = {
                "count": len(message.alerts),
                "omitted": omitted,
                "alerts": [_short(alert) for alert in named],
            }
        elif room:
            data = message.alerts[0].as_dict()
        else:
            alert = message.alerts[0]
            data = {
                **_short(alert),
                "description": alert_text.description(alert),
                "metadata": {},
                "truncated": True,
            }
        return {"type": _TYPES[message.kind], "timestamp": message.timestamp, "data": data}


def _short(alert: Alert) -> ShortAlert:
    return {
        "id": alert.id,
        "seq": alert.seq,
        "symbol": alert_text.name(alert.symbol),
        "rule_type": alert_text.name(alert.rule_type),
        "rule_version": alert.rule_version,
        "severity": alert_text.name(alert.severity),
        "timestamp": alert.timestamp,
        "price": alert.price,
    }
