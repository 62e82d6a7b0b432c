"""The body of a request in the form that its receiver understands: one table of formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from app.webhooks.delivery.message import Message
from app.webhooks.formats.discord import Discord
from app.webhooks.formats.slack import Slack
from app.webhooks.formats.standard import Standard
from app.webhooks.formats.telegram import Telegram
from app.webhooks.formats.webhook_format import WebhookFormat
from app.webhooks.targets.urls import NONE_BUT_PUBLIC, AllowedHosts, check_webhook_url, webhook_url

FORMS: Final[tuple[WebhookFormat, ...]] = (Telegram(), Slack(), Discord(), Standard())
"""The first format that takes a URL is its format."""
FORM: Final[Mapping[str, WebhookFormat]] = {form.name: form for form in FORMS}
FORMATS: Final = tuple(sorted(FORM))

BODY_MAX_BYTES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Rendered:
    """`url` is where to post `body`. signed: whether the receiver checks signatures. retry_after: the format's."""

    url: str
    body: bytes
    signed: bool
    retry_after: Callable[[bytes], str | None]


def detect_format(url: str) -> str:
    """Return the format of the service that the URL belongs to; `json` for every other URL."""
    parsed = webhook_url(url)
    return next(form.name for form in FORMS if form.takes(parsed))


def checked_format(url: str, allowed: AllowedHosts = NONE_BUT_PUBLIC) -> str:
    """Return the format of a URL that can be a target. Raises BadWebhookTarget for one that cannot."""
    check_webhook_url(url, allowed)
    form = detect_format(url)
    check_format(url, form)
    return form


def check_format(url: str, form: str) -> None:
    """Check the URL. Raises BadWebhookTarget if messages of this format cannot be sent to it."""
    FORM[form].check(url)


def render(form: str, url: str, message: Message) -> Rendered:
    """Return the request of a message, whose body is below 20 kB and always the same for the same message."""
    found = FORM[form]
    target, parameters = found.target(url)
    body = _fitted(lambda given, room: {**parameters, **found.body(given, room)}, message)
    return Rendered(target, body, found.signed, found.retry_after)


def _fitted(make: Callable[[Message, int], Mapping[str, object]], message: Message) -> bytes:
    """Return the body with as many alerts, and of each as much, as there is room for.

    `make` takes the message and how much room there is: the number of alerts named, or with room 0 a single
    one without its long parts.
    """
    room = len(message.alerts)
    while True:
        body = orjson.dumps(make(message, room))
        if len(body) < BODY_MAX_BYTES or room == 0:
            return body
        room = room * 3 // 4 if room > 1 else 0
