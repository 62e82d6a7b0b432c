"""Discord: an embed, https://discord.com/developers/docs/resources/webhook#execute-webhook.

Limits: 6,000 characters over all texts of a message, 4,096 in a description, 256 in a title, 1,024 in a field.
"""

from __future__ import annotations

import re
from typing import Final

from app.rules.alert import Alert
from app.webhooks.delivery.message import Message
from app.webhooks.formats import alert_text
from app.webhooks.formats.webhook_format import WebhookFormat

_COLOURS: Final = {"critical": 0xD32F2F, "high": 0xF57C00, "medium": 0xFBC02D, "info": 0x1976D2}
_OTHER_COLOUR: Final = 0x757575
_LINES_MAX_CHARS: Final = 4_000
_MARKDOWN: Final = re.compile(r"([\\*_~|`>\[\]()#-])")


class Discord(WebhookFormat):
    name = "discord"
    hosts = ("discord.com", "discordapp.com")

    def body(self, message: Message, room: int) -> dict[str, object]:
        embed = _digest(message, room) if message.kind == "digest" else _one(message, room)
        # whatever the texts contain, no user is mentioned
        return {"embeds": [embed | {"timestamp": message.timestamp}], "allowed_mentions": {"parse": []}}


def _one(message: Message, room: int) -> dict[str, object]:
    alert = message.alerts[0]
    facts = {"Price": alert_text.price(alert), "Severity": alert_text.name(alert.severity)}
    if room:
        facts |= {"Change": alert_text.changes(alert), "Quote volume": alert_text.volumes(alert)}
    return {
        "title": ("Test: " if message.kind == "test" else "") + _title(alert),
        "description": _escaped(alert_text.description(alert)),
        "color": _COLOURS.get(alert.severity, _OTHER_COLOUR),
        "fields": [
            {"name": fact, "value": _escaped(value), "inline": len(value) < 20}
            for fact, value in facts.items()
            if value
        ],
        "footer": {"text": alert.id},
    }


def _digest(message: Message, room: int) -> dict[str, object]:
    lines = (
        f"{alert_text.time_of_day(alert)} **{_escaped(alert_text.name(alert.symbol))}** "
        f"{_escaped(alert_text.name(alert.rule_type))} {_escaped(alert_text.price(alert))}"
        for alert in message.alerts[:room]
    )
    return {
        "title": alert_text.headline(len(message.alerts)),
        "description": alert_text.lines_within(_LINES_MAX_CHARS, lines, len(message.alerts)),
        "color": _OTHER_COLOUR,
    }


def _title(alert: Alert) -> str:
    return f"{alert_text.name(alert.symbol)} {alert_text.name(alert.rule_type)}"


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)
