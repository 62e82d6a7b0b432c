"""Requests to URLs that users gave: what a hostile or broken receiver can do, and what it cannot."""

from __future__ import annotations

import asyncio
import gzip
import random
import ssl
import threading
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from ipaddress import ip_network
from itertools import chain, repeat

import pytest
import trustme
from aiohttp import web

from app.clock import SystemClock
from app.local.servers.ports import free_port
from app.webhooks.delivery.post import Answer, Outcome, WebhookClient, webhook_client
from app.webhooks.targets.urls import AllowedHosts
from tests.support.eventually import eventually
from tests.support.http_server import serving
from tests.support.webhooks import Received, Receiver, receiving

BODY = b'{"type":"webhook.test"}'
TIMEOUT_S = 20.0
MEGABYTE = bytes(1024 * 1024)

LookUp = Callable[[str], list[str]]
Clients = AbstractAsyncContextManager[WebhookClient]


def client(
    *names: str,
    networks: Sequence[str] = ("127.0.0.0/8",),
    look_up: LookUp | None = None,
    timeout_s: float = TIMEOUT_S,
    tls: ssl.SSLContext | None = None,
) -> Clients:
    """Names lead to loopback unless told otherwise; `names` and `networks` are allowed."""
    allowed = AllowedHosts(frozenset(names), tuple(map(ip_network, networks)))
    return webhook_client(allowed, timeout_s, SystemClock(), 10, look_up or (lambda _: ["127.0.0.1"]), tls)


async def post(clients: Clients, url: str) -> Answer:
    async with clients as one:
        return await one.post(url, BODY, {"webhook-id": "msg_1"})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "delivered"),
        (204, "delivered"),
        (299, "delivered"),
        (304, "redirect"),
        (400, "client_error"),
        (401, "client_error"),
        (404, "client_error"),
        (410, "gone"),
        (429, "rate_limited"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
async def test_the_status_decides(receiver: Receiver, status: int, outcome: Outcome) -> None:
    receiver.says(status)
    answer = await post(client(), receiver.url)
    assert (answer.outcome, answer.status) == (outcome, status)


async def test_the_exact_bytes_and_headers_arrive_and_nothing_of_ours_beside_them(receiver: Receiver) -> None:
    await post(client(), receiver.url)
    [received] = receiver.received
    assert received.body == BODY
    assert received.headers["webhook-id"] == "msg_1"
    assert received.headers["content-type"] == "application/json"
    assert set(received.headers) == {
        "accept", "accept-encoding", "content-length", "content-type", "host", "user-agent", "webhook-id",
    }  # fmt: skip


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("leads_to", ["http://169.254.169.254/latest/meta-data/", "itself"])
async def test_a_redirect_is_a_failure_and_nobody_follows_it(
    receiver: Receiver, status: int, leads_to: str
) -> None:
    receiver.says(status, {"Location": receiver.url if leads_to == "itself" else leads_to})
    answer = await post(client(), receiver.url)
    assert (answer.outcome, answer.status) == ("redirect", status)
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["93.184.216.34", "10.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%lo"],
        ["169.254.169.254"],
    ],
)
async def test_a_name_with_any_address_that_is_not_public_is_not_connected_to(addresses: list[str]) -> None:
    found = await post(client(networks=(), look_up=lambda _: addresses), "https://hooks.example.com/")
    assert found.outcome == "forbidden_address"


async def test_an_answer_of_dns_that_changes_between_check_and_connection_gains_nothing() -> None:
    """Rebinding: an address that may be used when it is checked, another when asked again. Each connection goes to
    what was checked for it, on the only port and scheme that a name may use."""
    public = f"127.{random.randint(1, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"
    answers = chain([[public]], repeat(["127.0.0.1"]))
    asked: list[str] = []

    def look_up(host: str) -> list[str]:
        asked.append(host)
        return next(answers)

    async def fine(_: web.Request) -> web.Response:
        response = web.Response()
        # so that the second request needs a connection of its own
        response.force_close()
        return response

    serves, trusts = certified_for("rebind.example.com")
    clients = client(networks=(f"{public}/32",), look_up=look_up, tls=trusts)
    async with posted_to(fine, serves, public, 8443), clients as one:
        first = await one.post("https://rebind.example.com:8443/", BODY, {})
        assert (first.outcome, asked) == ("delivered", ["rebind.example.com"])
        second = await one.post("https://rebind.example.com:8443/", BODY, {})
    assert (second.outcome, asked) == ("forbidden_address", ["rebind.example.com"] * 2)


def certified_for(host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for `host`, and a client's that trusts its authority."""
    authority = trustme.CA()
    serves, trusts = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert(host).configure_cert(serves)
    authority.configure_trust(trusts)
    return serves, trusts


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/",
        "https://[::1]/",
        "https://2130706433/",
        "https://169.254.169.254/",
        "https://example.com:22/",
        "junk",
    ],
)
async def test_a_url_that_may_not_be_a_target_any_more_is_not_requested(url: str) -> None:
    assert (await post(client(networks=()), url)).outcome == "bad_url"


async def test_what_a_url_holds_arrives_byte_for_byte(receiver: Receiver) -> None:
    rest = "/hook/../a//%7e%2F?x=%2f&empty=&y=a+b&z=%20&q"
    assert (await post(client(), receiver.url.removesuffix("/hook") + rest)).delivered
    assert [one.path for one in receiver.received] == [rest]


@pytest.mark.parametrize("host", ["127.0.0.1", "hooks.corp.example"])
async def test_what_operators_allow_themselves_no_url_of_a_user_reaches(
    receiver: Receiver, host: str
) -> None:
    url = receiver.url.replace("127.0.0.1", host)
    async with client("hooks.corp.example") as one:
        assert (await one.post(url, BODY, {})).delivered
        assert (await one.post(url, BODY, {}, of_user=True)).outcome == "bad_url"
        # https at a port of users': the form is good, where it leads to is not
        of_user = await one.post("https://hooks.corp.example/hook", BODY, {}, of_user=True)
    assert of_user.outcome == "forbidden_address"
    assert len(receiver.received) == 1


async def test_a_name_without_address_and_a_port_where_nobody_listens_are_told_apart() -> None:
    def no_such_name(host: str) -> list[str]:
        raise OSError(f"no such name: {host}")

    assert (await post(client(look_up=no_such_name), "https://nowhere.example.com/")).outcome == "dns"
    assert (await post(client(look_up=lambda _: []), "https://nowhere.example.com/")).outcome == "dns"
    assert (await post(client(), f"http://127.0.0.1:{free_port()}/")).outcome == "connect"


async def test_an_endless_body_is_cut_and_the_status_counts() -> None:
    sent = 0
    ended = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError, asyncio.CancelledError):
            while True:
                await response.write(MEGABYTE)
                sent += len(MEGABYTE)
        ended.set()
        return response

    async with posted_to(endless) as url:
        found = await post(client(), url)
        await asyncio.wait_for(ended.wait(), 20)
    assert (found.outcome, found.status) == ("delivered", 200)
    # what fits into the buffers of the connection, not what a receiver would like to send
    assert sent < 16 * len(MEGABYTE)


async def test_a_body_that_never_ends_holds_nobody_up_for_long() -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        with suppress(ConnectionError):
            for _ in range(600):
                await response.write(b"x")
                await asyncio.sleep(0.05)
        return response

    async with posted_to(slow) as url:
        found = await post(client(timeout_s=30.0), url)
    assert (found.outcome, found.status) == ("server_error", 500)
    assert found.duration_ms < 15_000


async def test_a_receiver_that_takes_the_request_and_says_nothing_is_a_timeout() -> None:
    release = asyncio.Event()

    async def stalled(_: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    async with posted_to(stalled) as url:
        found = await post(client(timeout_s=0.3), url)
        release.set()
    assert (found.outcome, found.status) == ("timeout", None)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"", "disconnected"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", "protocol"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "protocol"),
        (b"HTTP/1.1 999999 What\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "delivered"),
        (b"HTTP/1.1 503 Later\r\nContent-Length: -5\r\n\r\n", "protocol"),
    ],
)
async def test_a_receiver_that_does_not_speak_http_well_is_a_failure(answer: bytes, outcome: Outcome) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(BODY)
        writer.write(answer)
        with suppress(ConnectionError):
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert (await post(client(), f"http://127.0.0.1:{port}/")).outcome == outcome


async def test_a_compressed_answer_is_not_unpacked(receiver: Receiver) -> None:
    packed = gzip.compress(50 * MEGABYTE)

    async def bomb(_: Received) -> web.StreamResponse:
        return web.Response(status=500, body=packed, headers={"Content-Encoding": "gzip"})

    receiver.answer = bomb
    async with client() as one:
        await one.post(receiver.url, BODY, {})
        tracemalloc.start()
        try:
            answer = await one.post(receiver.url, BODY, {})
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert answer.outcome == "server_error"
    assert peak_bytes < len(MEGABYTE) * 3 // 4


async def test_cookies_are_not_kept_and_proxies_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    receiver.says(200, {"Set-Cookie": "spy=1"})
    async with client() as one:
        for _ in range(2):
            assert (await one.post(receiver.url, BODY, {})).delivered
    assert all("cookie" not in received.headers for received in receiver.received)


@asynccontextmanager
async def posted_to(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/{path:.*}", handler)
    async with serving(app, host=host, port=port, tls=tls) as url:
        yield f"{url}/"


@pytest.mark.parametrize(
    ("certified", "outcome"), [("hooks.internal.example", "delivered"), ("other.internal.example", "tls")]
)
async def test_tls_names_and_checks_the_host_though_the_connection_goes_to_the_checked_address(
    certified: str, outcome: Outcome
) -> None:
    serves, trusts = certified_for(certified)
    asked_for: list[str | None] = []
    serves.sni_callback = lambda _socket, name, _context: asked_for.append(name)

    async def fine(_: web.Request) -> web.Response:
        return web.Response()

    async with posted_to(fine, serves) as url:
        named = url.replace("127.0.0.1", "hooks.internal.example")
        found = await post(client("hooks.internal.example", tls=trusts), named)
    assert found.outcome == outcome
    assert asked_for == ["hooks.internal.example"]


async def test_a_certificate_of_an_unknown_authority_is_refused() -> None:
    serves, _ = certified_for("hooks.internal.example")

    async def fine(_: web.Request) -> web.Response:
        return web.Response()

    async with posted_to(fine, serves) as url:
        named = url.replace("127.0.0.1", "hooks.internal.example")
        assert (await post(client("hooks.internal.example"), named)).outcome == "tls"


async def test_slow_names_hold_up_no_other_receiver(receiver: Receiver) -> None:
    release = threading.Event()

    def look_up(host: str) -> list[str]:
        if host.startswith("slow"):
            release.wait(20)
        return ["127.0.0.1"]

    async with client("fast.example", look_up=look_up) as one:
        slow = [
            asyncio.create_task(one.post(f"https://slow{number}.example.com/", BODY, {}))
            for number in range(8)
        ]
        try:
            fast = await one.post(receiver.url.replace("127.0.0.1", "fast.example"), BODY, {})
        finally:
            release.set()
        assert fast.delivered
        await asyncio.gather(*slow)
    await eventually(lambda: len(receiver.received) == 1)
