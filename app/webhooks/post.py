"""One request to a target, and what came of it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

import aiohttp
import orjson

from app.clock import Clock
from app.errors import BadWebhookTarget
from app.webhooks.resolver import CheckedResolver, ForbiddenAddress, LookUp, system_look_up
from app.webhooks.retries import retry_after_ms
from app.webhooks.targets import AllowedHosts, check_webhook_url

Outcome = Literal[
    "delivered",
    "bad_url",
    "client_error",
    "connect",
    "disconnected",
    "dns",
    "forbidden_address",
    "gone",
    "internal",
    "protocol",
    "rate_limited",
    "redirect",
    "server_error",
    "timeout",
    "tls",
]
"""`delivered`, or why not; the latter are the `reason` labels of the metric."""

# more than the answers of any service we know; beyond it a body is not read, and its connection not used again
_BODY_MAX_BYTES: Final = 16_384
# what comes after the status decides nothing, so nothing waits long for it
_BODY_TIMEOUT_S: Final = 2.0
_HEADERS: Final = {
    "Content-Type": "application/json",
    "User-Agent": "screener-webhooks/1",
    # answers are not decompressed: a small one could become a huge one
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` is None without a response. What the response's body says never leaves this module."""

    outcome: Outcome
    status: int | None
    retry_after_ms: int | None
    duration_ms: int

    @property
    def delivered(self) -> bool:
        return self.outcome == "delivered"


class WebhookClient:
    """Posts to URLs of users: follows no redirect, knows no proxy and no cookie, and is bounded in time and size."""

    def __init__(
        self, session: aiohttp.ClientSession, allowed: AllowedHosts, timeout_s: float, clock: Clock
    ) -> None:
        self._session = session
        self._allowed = allowed
        self._timeout_s = timeout_s
        self._clock = clock

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Never raises for what the target does. Only a status of 200 to 299 counts as delivered."""
        began_s = time.perf_counter()
        status: int | None = None
        wait_ms: int | None = None
        try:
            # the client looks no address up that the URL itself spells, so that is checked here
            check_webhook_url(url, self._allowed)
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.post(
                    url, data=body, headers={**_HEADERS, **headers}, allow_redirects=False
                ) as response,
            ):
                status = response.status
                outcome = _outcome(status)
                text = await _read(response)
                if outcome != "delivered":
                    wait_ms = self._asked_to_wait_ms(response, text)
        except BadWebhookTarget:
            outcome = "bad_url"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # with a status the answer has come; what happened behind it changes nothing
            outcome = _failure(error) if status is None else _outcome(status)
        return Answer(outcome, status, wait_ms, round((time.perf_counter() - began_s) * 1000))

    def _asked_to_wait_ms(self, response: aiohttp.ClientResponse, body: bytes) -> int | None:
        header = response.headers.get("Retry-After")
        if header is None and response.status == 429:
            header = _telegram_retry_after(body)
        return retry_after_ms(header, self._clock.now_ms())


@asynccontextmanager
async def webhook_client(
    allowed: AllowedHosts,
    timeout_s: float,
    clock: Clock,
    connections: int,
    look_up: LookUp = system_look_up,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[WebhookClient]:
    """connections: the most that are open at a time. tls: other authorities than the system's."""
    resolver = CheckedResolver(allowed, look_up)
    connector = aiohttp.TCPConnector(
        resolver=resolver, use_dns_cache=False, limit=connections, ssl=tls if tls is not None else True
    )
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        trust_env=False,
    )
    try:
        async with session:
            yield WebhookClient(session, allowed, timeout_s, clock)
    finally:
        await resolver.close()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The start of the body. Without its end in bounds of time and size, the connection is closed."""
    body = b""
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            while len(body) <= _BODY_MAX_BYTES:
                chunk = await response.content.read(_BODY_MAX_BYTES)
                if not chunk:
                    return body
                body += chunk
    except TimeoutError:
        pass
    response.close()
    return body


def _outcome(status: int) -> Outcome:
    if 200 <= status < 300:
        return "delivered"
    if 300 <= status < 400:
        return "redirect"
    if status == 410:
        return "gone"
    if status == 429:
        return "rate_limited"
    return "client_error" if 400 <= status < 500 else "server_error"


def _failure(error: Exception) -> Outcome:
    """Of a request that got no response."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "forbidden_address" if isinstance(error.os_error, ForbiddenAddress) else "dns"
    kinds: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Outcome], ...] = (
        (TimeoutError, "timeout"),
        ((aiohttp.ClientSSLError, ssl.SSLError), "tls"),
        (aiohttp.InvalidURL, "bad_url"),
        (aiohttp.ClientConnectorError, "connect"),
        ((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, OSError), "disconnected"),
    )
    return next((outcome for kind, outcome in kinds if isinstance(error, kind)), "protocol")


def _telegram_retry_after(body: bytes) -> str | None:
    """Telegram names the seconds only here."""
    try:
        return str(int(orjson.loads(body)["parameters"]["retry_after"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
