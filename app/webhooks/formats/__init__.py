"""The body of a request in the form that its receiver understands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
from yarl import URL

from app.webhooks.formats.discord import discord_body
from app.webhooks.formats.slack import slack_body
from app.webhooks.formats.standard import standard_body
from app.webhooks.formats.telegram import check_telegram_url, telegram_body, telegram_url
from app.webhooks.message import Message
from app.webhooks.targets import AllowedHosts, check_webhook_url

Format = Literal["json", "discord", "slack", "telegram"]

BODY_MAX_BYTES: Final = 20_000
_DISCORD: Final = ("discord.com", "discordapp.com")
_SLACK: Final = ("hooks.slack.com", "hooks.slack-gov.com")
_TELEGRAM: Final = "api.telegram.org"


@dataclass(frozen=True, slots=True)
class Rendered:
    """`url` is where to post `body`. signed: whether the receiver checks signatures."""

    url: str
    body: bytes
    signed: bool


def detect_format(url: str) -> Format:
    """By the URL of the service that it belongs to; `json` for every other."""
    parsed = URL(url)
    host = (parsed.host or "").lower().removesuffix(".")
    if host == _TELEGRAM:
        return "telegram"
    # Discord takes what Slack takes at the URL with /slack behind it
    if host in _SLACK or (_is_discord(host) and parsed.path.endswith("/slack")):
        return "slack"
    return "discord" if _is_discord(host) else "json"


def checked_format(url: str, allowed: AllowedHosts) -> Format:
    """The format of a URL that can be a target. Raises BadWebhookTarget for one that cannot."""
    check_webhook_url(url, allowed)
    form = detect_format(url)
    check_format(url, form)
    return form


def check_format(url: str, form: Format) -> None:
    """Raises BadWebhookTarget if messages of this format cannot be sent to the URL."""
    if form == "telegram":
        check_telegram_url(url)


def render(form: Format, url: str, message: Message) -> Rendered:
    """The same bytes whenever it is called for the same message, below 20 kB."""
    if form == "json":
        return Rendered(url, _fitted(standard_body, message), signed=True)
    if form == "discord":
        return Rendered(url, _fitted(discord_body, message), signed=False)
    if form == "slack":
        return Rendered(url, _fitted(slack_body, message), signed=False)
    target, chat = telegram_url(url)
    return Rendered(
        target, _fitted(lambda *given: {"chat_id": chat} | telegram_body(*given), message), signed=False
    )


def _fitted(make: Callable[[Message, int], dict[str, Any]], message: Message) -> bytes:
    """The body with as many alerts, and of each as much, as there is room for.

    `make` takes the message and how much room there is: the number of alerts named, or with room 0 a single
    one without its long parts.
    """
    room = len(message.alerts)
    while True:
        body = orjson.dumps(make(message, room))
        if len(body) < BODY_MAX_BYTES or room == 0:
            return body
        room = room * 3 // 4 if room > 1 else 0


def _is_discord(host: str) -> bool:
    return any(host == name or host.endswith(f".{name}") for name in _DISCORD)
