"""Checks which URLs may be webhook targets. This needs no look-up of names; the sender repeats it before
every attempt, and checks every address that a name resolves to (`app.webhooks.targets.resolver`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final

from yarl import URL

from app.errors import BadWebhookTarget
from app.webhooks.targets.addresses import Address, Network, why_not_public

URL_MAX_CHARS: Final = 2_048
PORTS: Final = (443, 8443)

_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ufeff]")
_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
)
_PLAIN: Final = re.compile(r"(?:[A-Za-z0-9._~:/?@!$&'()*+,;=\[\]-]|%[0-9A-Fa-f]{2})*")
# with a last label like these, resolvers read the whole as an IPv4 address: 2130706433, 0x7f.1, 127.0.0.0x1
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOCAL_NAMES: Final = ("localhost", "local", "localdomain", "internal", "home.arpa")


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """Hosts that operators trust beyond the public ones: over http too, at any port and address."""

    names: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[str]) -> AllowedHosts:
        """Parse names (`hooks.internal`), addresses (`10.1.2.3`) and networks (`10.1.0.0/16`)."""
        names, networks = set(), []
        for entry in entries:
            try:
                networks.append(ip_network(entry))
            except ValueError:
                names.add(entry)
        return cls(frozenset(names), tuple(networks))

    def has_name(self, host: str) -> bool:
        return host in self.names

    def has_address(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


NONE_BUT_PUBLIC: Final = AllowedHosts()


def webhook_url(url: str) -> URL:
    """Return the URL as the HTTP client takes it: byte for byte if it has only the characters of URLs, else with other
    characters percent-encoded. Raises ValueError, TypeError or UnicodeError for an invalid URL."""
    return URL(url, encoded=_PLAIN.fullmatch(url) is not None)


def check_webhook_url(url: str, allowed: AllowedHosts = NONE_BUT_PUBLIC) -> None:
    """Return for `https://host[:443|:8443]/...` whose host is a public name or a public address.

    Raises BadWebhookTarget, with words for the author of the URL and without the URL itself, which may hold
    secrets. `allowed` hosts may also be private, over http and at any port.
    """
    parsed = _parsed(url)
    host = (parsed.raw_host or "").lower().removesuffix(".")
    address = _address(host)
    trusted = allowed.has_name(host) if address is None else allowed.has_address(address)
    if parsed.scheme != "https" and not (trusted and parsed.scheme == "http"):
        raise BadWebhookTarget("a webhook URL must start with https://")
    if "@" in parsed.raw_authority:
        raise BadWebhookTarget("a webhook URL must not contain a user name or password")
    if trusted:
        return
    if parsed.port not in PORTS:
        raise BadWebhookTarget("a webhook URL must use port 443 or 8443")
    if address is None:
        _check_name(host)
    elif (what := why_not_public(address)) is not None:
        raise BadWebhookTarget(f"a webhook URL must have a public address; this address is {what}")


def _parsed(url: str) -> URL:
    """Parse a URL like the HTTP client, so that both see the same host."""
    if len(url) > URL_MAX_CHARS:
        raise BadWebhookTarget(f"a webhook URL has at most {URL_MAX_CHARS} characters")
    if _UNPRINTABLE.search(url):
        raise BadWebhookTarget("a webhook URL has no spaces, control characters or backslashes")
    if "#" in url:
        raise BadWebhookTarget("a webhook URL must not contain a fragment (#...): it is never sent")
    try:
        parsed = webhook_url(url)
        _ = parsed.port, parsed.raw_host
    except (ValueError, TypeError, UnicodeError):
        # yarl's message may repeat the URL
        raise BadWebhookTarget("this is not a URL; write for example https://example.com/hook") from None
    if not parsed.raw_host:
        raise BadWebhookTarget("a webhook URL needs a host, for example https://example.com/hook")
    return parsed


def _address(host: str) -> Address | None:
    """Return the address in `host`, None if it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        if ":" in host or "%" in host or _NUMBER.fullmatch(host.rpartition(".")[2]):
            raise BadWebhookTarget(
                "a webhook URL must name its host, or give its address in the usual form (four decimal numbers, "
                "or IPv6 in brackets without zone)"
            ) from None
        return None


def _check_name(host: str) -> None:
    if not _NAME.fullmatch(host):
        raise BadWebhookTarget("the host of this webhook URL is not a DNS name")
    if "." not in host or any(host == name or host.endswith(f".{name}") for name in _LOCAL_NAMES):
        raise BadWebhookTarget("a webhook URL needs a host on the public internet")
