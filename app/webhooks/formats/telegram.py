"""Telegram: the bot API's sendMessage, https://core.telegram.org/bots/api#sendmessage.

The target's URL is `https://api.telegram.org/bot<token>/sendMessage?chat_id=<chat>`; further parameters of the method
behind it (`message_thread_id`, `disable_notification`) are passed on. Limit: 4,096 characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Final

import orjson

from app.errors import BadWebhookTarget
from app.rules.alert import Alert
from app.webhooks.delivery.message import Message
from app.webhooks.formats import alert_text
from app.webhooks.formats.webhook_format import WebhookFormat
from app.webhooks.targets.urls import webhook_url

_LINES_MAX_CHARS: Final = 3_900
_OURS: Final = frozenset(
    ("text", "parse_mode", "entities", "link_preview_options", "disable_web_page_preview")
)
_PARAMETER: Final = re.compile(r"[a-z_]{1,64}")
_CHAT: Final = re.compile(r"-?[0-9]{1,20}|@[A-Za-z0-9_]{1,64}")


class Telegram(WebhookFormat):
    name = "telegram"
    hosts = ("api.telegram.org",)

    def check(self, url: str) -> None:
        """Check the URL. Raises BadWebhookTarget if it does not name the method and the chat."""
        _check(url)

    def target(self, url: str) -> tuple[str, Mapping[str, str]]:
        """`chat_id` and further parameters of the method go into the body."""
        return url.partition("?")[0], dict(webhook_url(url).query)

    def body(self, message: Message, room: int) -> Mapping[str, object]:
        """Return the body without the fields of the URL."""
        text = _digest(message, room) if message.kind == "digest" else _one(message, room)
        return {"text": text, "parse_mode": "HTML", "link_preview_options": {"is_disabled": True}}

    def retry_after(self, answer: bytes) -> str | None:
        """Return the seconds, which Telegram names only in the body."""
        try:
            return str(int(orjson.loads(answer)["parameters"]["retry_after"]))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return None


def _check(url: str) -> None:
    parsed = webhook_url(url)
    if not parsed.path.endswith("/sendMessage") or not _CHAT.fullmatch(parsed.query.get("chat_id", "")):
        raise BadWebhookTarget(
            "a Telegram URL looks like https://api.telegram.org/bot<token>/sendMessage?chat_id=<number or @channel>"
        )
    names = [name for name, _ in parsed.query.items()]
    if taken := sorted(_OURS.intersection(names)):
        raise BadWebhookTarget(f"a Telegram URL must not contain {', '.join(taken)}: the screener sets it")
    if len(set(names)) < len(names) or any(not _PARAMETER.fullmatch(name) for name in names):
        raise BadWebhookTarget("a Telegram URL must contain each parameter of sendMessage once, by name")


def _one(message: Message, room: int) -> str:
    alert = message.alerts[0]
    lines = [
        ("Test: " if message.kind == "test" else "") + f"<b>{_title(alert)}</b> ({_name(alert.severity)})",
        escape(alert_text.description(alert)),
        f"Price {alert_text.price(alert)}",
    ]
    if room:
        lines += [f"Change {alert_text.changes(alert)}", f"Quote volume {alert_text.volumes(alert)}"]
    return "\n".join(lines)


def _digest(message: Message, room: int) -> str:
    lines = (
        f"{alert_text.time_of_day(alert)} <b>{_title(alert)}</b> {alert_text.price(alert)}"
        for alert in message.alerts[:room]
    )
    text = alert_text.lines_within(_LINES_MAX_CHARS, lines, len(message.alerts))
    return f"<b>{alert_text.headline(len(message.alerts))}</b>\n{text}"


def _title(alert: Alert) -> str:
    return f"{_name(alert.symbol)} {_name(alert.rule_type)}"


def _name(text: str) -> str:
    return escape(alert_text.name(text))
