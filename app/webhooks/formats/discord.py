"""Discord: an embed, https://discord.com/developers/docs/resources/webhook#execute-webhook.

Limits: 6,000 characters over all texts of a message, 4,096 in a description, 256 in a title, 1,024 in a field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from app.webhooks.formats import words
from app.webhooks.message import Message

_COLOURS: Final = {"critical": 0xD32F2F, "high": 0xF57C00, "medium": 0xFBC02D, "info": 0x1976D2}
_OTHER_COLOUR: Final = 0x757575
_LINES_MAX_CHARS: Final = 4_000
_MARKDOWN: Final = re.compile(r"([\\*_~|`>\[\]()#-])")


def discord_body(message: Message, room: int) -> dict[str, Any]:
    embed = _digest(message, room) if message.kind == "digest" else _one(message, room)
    # whatever the texts hold, nobody is mentioned
    return {"embeds": [embed | {"timestamp": message.timestamp}], "allowed_mentions": {"parse": []}}


def _one(message: Message, room: int) -> dict[str, Any]:
    alert = message.alerts[0]
    facts = {"Price": words.price(alert), "Severity": words.name(alert, "severity")}
    if room:
        facts |= {"Change": words.changes(alert), "Quote volume": words.volumes(alert)}
    return {
        "title": ("Test: " if message.kind == "test" else "") + _title(alert),
        "description": _escaped(words.description(alert)),
        "color": _COLOURS.get(str(alert["severity"]), _OTHER_COLOUR),
        "fields": [
            {"name": fact, "value": _escaped(value), "inline": len(value) < 20}
            for fact, value in facts.items()
            if value
        ],
        "footer": {"text": str(alert["id"])},
    }


def _digest(message: Message, room: int) -> dict[str, Any]:
    lines = (
        f"{words.time_of_day(alert)} **{_escaped(words.name(alert, 'symbol'))}** "
        f"{_escaped(words.name(alert, 'rule_type'))} {_escaped(words.price(alert))}"
        for alert in message.alerts[:room]
    )
    return {
        "title": words.headline(len(message.alerts)),
        "description": words.lines_within(_LINES_MAX_CHARS, lines, len(message.alerts)),
        "color": _OTHER_COLOUR,
    }


def _title(alert: Mapping[str, Any]) -> str:
    return f"{words.name(alert, 'symbol')} {words.name(alert, 'rule_type')}"


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)
