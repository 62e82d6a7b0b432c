"""JSON for programs: `{"type", "timestamp", "data"}` after the Standard Webhooks convention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.webhooks.formats.words import description, name
from app.webhooks.message import Message

_TYPES: Final = {"alert": "alert.fired", "digest": "alert.digest", "test": "webhook.test"}


def standard_body(message: Message, room: int) -> dict[str, Any]:
    """`data` is the alert as the API gives it, or `{count, omitted, alerts}` with short alerts for a digest.

    Without room an alert comes with empty metadata and `"truncated": true`.
    """
    data: dict[str, Any]
    if message.kind == "digest":
        named = message.alerts[:room]
        omitted = len(message.alerts) - len(named)
        data = {
            "count": len(message.alerts),
            "omitted": omitted,
            "alerts": [_short(alert) for alert in named],
        }
    elif room:
        data = dict(message.alerts[0])
    else:
        alert = message.alerts[0]
        data = _short(alert) | {"description": description(alert), "metadata": {}, "truncated": True}
    return {"type": _TYPES[message.kind], "timestamp": message.timestamp, "data": data}


def _short(alert: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": alert["id"],
        "seq": alert["seq"],
        "symbol": name(alert, "symbol"),
        "rule_type": name(alert, "rule_type"),
        "rule_version": alert["rule_version"],
        "severity": name(alert, "severity"),
        "timestamp": alert["timestamp"],
        "price": alert["price"],
    }
