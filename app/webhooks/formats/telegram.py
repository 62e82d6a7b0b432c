"""Telegram: the bot API's sendMessage, https://core.telegram.org/bots/api#sendmessage.

The target's URL is `https://api.telegram.org/bot<token>/sendMessage?chat_id=<chat>`. Limit: 4,096 characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any, Final

from yarl import URL

from app.errors import BadWebhookTarget
from app.webhooks.formats import words
from app.webhooks.message import Message

_LINES_MAX_CHARS: Final = 3_900
_CHAT: Final = re.compile(r"-?[0-9]{1,20}|@[A-Za-z0-9_]{1,64}")


def check_telegram_url(url: str) -> None:
    """Raises BadWebhookTarget, without the URL, if it does not name the method and the chat."""
    parsed = URL(url)
    if not parsed.path.endswith("/sendMessage") or not _CHAT.fullmatch(parsed.query.get("chat_id", "")):
        raise BadWebhookTarget(
            "a Telegram URL looks like https://api.telegram.org/bot<token>/sendMessage?chat_id=<number or @channel>"
        )


def telegram_url(url: str) -> tuple[str, str]:
    """Where to post, and the chat that the URL named."""
    parsed = URL(url)
    return str(parsed.with_query(None)), parsed.query.get("chat_id", "")


def telegram_body(message: Message, room: int) -> dict[str, Any]:
    """Without the chat."""
    text = _digest(message, room) if message.kind == "digest" else _one(message, room)
    return {"text": text, "parse_mode": "HTML", "link_preview_options": {"is_disabled": True}}


def _one(message: Message, room: int) -> str:
    alert = message.alerts[0]
    lines = [
        ("Test: " if message.kind == "test" else "") + f"<b>{_title(alert)}</b> ({_name(alert, 'severity')})",
        escape(words.description(alert)),
        f"Price {words.price(alert)}",
    ]
    if room:
        lines += [f"Change {words.changes(alert)}", f"Quote volume {words.volumes(alert)}"]
    return "\n".join(lines)


def _digest(message: Message, room: int) -> str:
    lines = (
        f"{words.time_of_day(alert)} <b>{_title(alert)}</b> {words.price(alert)}"
        for alert in message.alerts[:room]
    )
    text = words.lines_within(_LINES_MAX_CHARS, lines, len(message.alerts))
    return f"<b>{words.headline(len(message.alerts))}</b>\n{text}"


def _title(alert: Mapping[str, Any]) -> str:
    return f"{_name(alert, 'symbol')} {_name(alert, 'rule_type')}"


def _name(alert: Mapping[str, Any], field: str) -> str:
    return escape(words.name(alert, field))
