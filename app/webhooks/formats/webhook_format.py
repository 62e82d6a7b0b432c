"""The base of message formats. Each format is a class in its own module, and a line in `formats.FORMS`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from yarl import URL

from app.webhooks.delivery.message import Message
from app.webhooks.targets.urls import webhook_url


class WebhookFormat(ABC):
    """The body of a request for one kind of receiver. Formats override their differences.

    name: in the API and the database. hosts: their URLs have this format, those of subdomains included. signed: whether
    the receiver checks signatures.
    """

    name: ClassVar[str]
    hosts: ClassVar[tuple[str, ...]] = ()
    signed: ClassVar[bool] = False

    def takes(self, url: URL) -> bool:
        """Return whether a URL is one of this kind of receiver."""
        host = (url.host or "").lower().removesuffix(".")
        return any(host == name or host.endswith(f".{name}") for name in self.hosts)

    def check(self, url: str) -> None:
        """Check the URL. Raises BadWebhookTarget, without the URL, if messages cannot be sent to it."""
        webhook_url(url)

    def target(self, url: str) -> tuple[str, Mapping[str, str]]:
        """Return where to post, and the body fields in the URL."""
        return url, {}

    @abstractmethod
    def body(self, message: Message, room: int) -> Mapping[str, object]:
        """room: how many alerts may be named; with 0 a single one without its long parts."""

    def retry_after(self, answer: bytes) -> str | None:
        """Return the wait that the body of a 429 asks for, in the form of Retry-After; None without one."""
        return None
