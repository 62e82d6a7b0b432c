"""One request to a target, and its answer."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

import aiohttp

from app.clock import Clock
from app.errors import BadWebhookTarget
from app.webhooks.delivery.retries import retry_after_ms
from app.webhooks.targets.resolver import CheckedResolver, ForbiddenAddress, LookUp, system_look_up
from app.webhooks.targets.urls import NONE_BUT_PUBLIC, AllowedHosts, check_webhook_url, webhook_url

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
"""`delivered`, or the reason of a failure, which is the `reason` label of the metric."""

# more than the answers of any service we know; beyond it a body is not read, and its connection not used again
_BODY_MAX_BYTES: Final = 16_384
# only the status decides, so the wait for the rest is short
_BODY_TIMEOUT_S: Final = 2.0
_HEADERS: Final = {
    "Content-Type": "application/json",
    "User-Agent": "screener-webhooks/1",
    # answers are not decompressed: a small one could become a huge one
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` is None without a response. The response's body never leaves this module."""

    outcome: Outcome
    status: int | None
    retry_after_ms: int | None
    duration_ms: int

    @property
    def delivered(self) -> bool:
        return self.outcome == "delivered"


@dataclass(frozen=True, slots=True)
class Reach:
    """Connections to the public internet and to the `allowed` hosts, and to no others."""

    session: aiohttp.ClientSession
    allowed: AllowedHosts


class WebhookClient:
    """Posts to URLs of strangers: follows no redirect, uses no proxy and no cookie, and limits time and size.

    URLs of operators may lead to their own hosts, URLs of users may not; so the two share no connection.
    """

    def __init__(self, operators: Reach, users: Reach, timeout_s: float, clock: Clock) -> None:
        self._operators = operators
        self._users = users
        self._timeout_s = timeout_s
        self._clock = clock

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        of_user: bool = False,
        retry_after: Callable[[bytes], str | None] = lambda _: None,
    ) -> Answer:
        """Post a message. Never raises for errors of the target. Only a status of 200 to 299 counts as delivered.

        retry_after: reads the wait from the body of a 429 without a Retry-After header, in the form of that header."""
        reach = self._users if of_user else self._operators
        began_s = time.perf_counter()
        status: int | None = None
        wait_ms: int | None = None
        try:
            # the client does not look up an address that the URL itself contains, so it is checked here
            check_webhook_url(url, reach.allowed)
            async with (
                asyncio.timeout(self._timeout_s),
                reach.session.post(
                    webhook_url(url), data=body, headers={**_HEADERS, **headers}, allow_redirects=False
                ) as response,
            ):
                status = response.status
                outcome = _outcome(status)
                text = await _read(response)
                if outcome != "delivered":
                    header = response.headers.get("Retry-After")
                    if header is None and status == 429:
                        header = retry_after(text)
                    wait_ms = retry_after_ms(header, self._clock.now_ms())
        except BadWebhookTarget:
            outcome = "bad_url"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # with a status the answer has come; a later error changes nothing
            outcome = _failure(error) if status is None else _outcome(status)
        return Answer(outcome, status, wait_ms, round((time.perf_counter() - began_s) * 1000))


@asynccontextmanager
async def webhook_client(
    allowed: AllowedHosts,
    timeout_s: float,
    clock: Clock,
    connections: int,
    look_up: LookUp = system_look_up,
    tls: ssl.SSLContext | None = None,
    *,
    users: AllowedHosts = NONE_BUT_PUBLIC,
) -> AsyncIterator[WebhookClient]:
    """Yield a client. `allowed`: for operators' targets; `users`: for users' targets. connections: the most that are
    open at a time to either. tls: other authorities than the system's."""
    async with (
        _reach(allowed, connections, look_up, tls) as for_operators,
        _reach(users, connections, look_up, tls) as for_users,
    ):
        yield WebhookClient(for_operators, for_users, timeout_s, clock)


@asynccontextmanager
async def _reach(
    allowed: AllowedHosts, connections: int, look_up: LookUp, tls: ssl.SSLContext | None
) -> AsyncIterator[Reach]:
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
            yield Reach(session, allowed)
    finally:
        await resolver.close()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the start of the body. If it does not end within the limits of time and size, close the connection."""
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
    """Return the failure of a request without a response."""
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
