"""Slack: blocks, https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks.

Limits: 3,000 characters in a section's text, 2,000 in a field. Discord accepts the same at its /slack URLs, and shows
the `text`.
"""

from __future__ import annotations

from typing import Final

from yarl import URL

from app.rules.alert import Alert
from app.webhooks.delivery.message import Message
from app.webhooks.formats import alert_text
from app.webhooks.formats.discord import Discord
from app.webhooks.formats.webhook_format import WebhookFormat

_LINES_MAX_CHARS: Final = 2_900


class Slack(WebhookFormat):
    name = "slack"
    hosts = ("hooks.slack.com", "hooks.slack-gov.com")

    def takes(self, url: URL) -> bool:
        """Return whether a URL is Slack's, or one of Discord's that ends in /slack and accepts the same."""
        return super().takes(url) or (Discord().takes(url) and url.path.endswith("/slack"))

    def body(self, message: Message, room: int) -> dict[str, object]:
        return _digest(message, room) if message.kind == "digest" else _one(message, room)


def _one(message: Message, room: int) -> dict[str, object]:
    alert = message.alerts[0]
    title = ("Test: " if message.kind == "test" else "") + _title(alert)
    facts = {"Price": alert_text.price(alert), "Severity": alert_text.name(alert.severity)}
    if room:
        facts |= {"Change": alert_text.changes(alert), "Quote volume": alert_text.volumes(alert)}
    about = _escaped(alert_text.description(alert))
    return {
        "text": f"{title}: {about}",
        "blocks": [
            {
                "type": "section",
                "text": {"type": "mrkdwn", "text": alert_text.cut(f"*{title}*\n{about}", 3_000)},
            },
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
                "elements": [{"type": "plain_text", "text": f"{alert.timestamp} {alert.id}"}],
            },
        ],
    }


def _digest(message: Message, room: int) -> dict[str, object]:
    title = alert_text.headline(len(message.alerts))
    lines = (
        f"{alert_text.time_of_day(alert)} *{_title(alert)}* {alert_text.price(alert)}"
        for alert in message.alerts[:room]
    )
    text = alert_text.lines_within(_LINES_MAX_CHARS, lines, len(message.alerts))
    return {
        "text": title,
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": f"*{title}*"}},
            {"type": "section", "text": {"type": "mrkdwn", "text": text}},
        ],
    }


def _title(alert: Alert) -> str:
    return _escaped(f"{alert_text.name(alert.symbol)} {alert_text.name(alert.rule_type)}")


def _escaped(text: str) -> str:
    """Escape: no text can become a link or a mention, for example <!channel>."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
