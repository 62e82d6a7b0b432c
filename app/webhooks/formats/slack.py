"""Slack: blocks, https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks.

Limits: 3,000 characters in a section's text, 2,000 in a field. Discord takes the same at its /slack URLs, of which it
shows `text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.webhooks.formats import words
from app.webhooks.message import Message

_LINES_MAX_CHARS: Final = 2_900


def slack_body(message: Message, room: int) -> dict[str, Any]:
    return _digest(message, room) if message.kind == "digest" else _one(message, room)


def _one(message: Message, room: int) -> dict[str, Any]:
    alert = message.alerts[0]
    title = ("Test: " if message.kind == "test" else "") + _title(alert)
    facts = {"Price": words.price(alert), "Severity": words.name(alert, "severity")}
    if room:
        facts |= {"Change": words.changes(alert), "Quote volume": words.volumes(alert)}
    about = _escaped(words.description(alert))
    return {
        "text": f"{title}: {about}",
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": words.cut(f"*{title}*\n{about}", 3_000)}},
            {
                "type": "section",
                "fields": [
                    {"type": "mrkdwn", "text": f"*{fact}*\n{_escaped(value)}"}
                    for fact, value in facts.items()
                    if value
                ],
            },
            {
                "type": "context",
                "elements": [{"type": "plain_text", "text": f"{alert['timestamp']} {alert['id']}"}],
            },
        ],
    }


def _digest(message: Message, room: int) -> dict[str, Any]:
    title = words.headline(len(message.alerts))
    lines = (
        f"{words.time_of_day(alert)} *{_title(alert)}* {words.price(alert)}"
        for alert in message.alerts[:room]
    )
    text = words.lines_within(_LINES_MAX_CHARS, lines, len(message.alerts))
    return {
        "text": title,
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": f"*{title}*"}},
            {"type": "section", "text": {"type": "mrkdwn", "text": text}},
        ],
    }


def _title(alert: Mapping[str, Any]) -> str:
    return _escaped(f"{words.name(alert, 'symbol')} {words.name(alert, 'rule_type')}")


def _escaped(text: str) -> str:
    """No text can become a link or a mention, such as <!channel>."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
