"""Who may do what over REST, and what answers give away."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from app.process.children.supervisor import role_environ
from app.settings import Settings
from app.sidecar.http.middlewares import errors_as_json, request_ids
from app.sidecar.http.route_table import Access, Route, RouteTable
from app.sidecar.http.routes import routes_of
from app.sidecar.state.limits import SidecarLimits
from tests.support.database import migrated
from tests.support.eventually import eventually
from tests.support.sidecar import FREE_PORTS, Client, prepare, running_sidecar
from tests.support.tokens import (
    SECRET,
    bearer,
    https_server,
    public_jwk,
    rsa_key,
    rsa_token,
    token,
)

NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await prepare(settings)
    return with_users(settings)


def with_users(settings: Settings, **changes: Any) -> Settings:
    return Settings.model_validate({**settings.model_dump(), "jwt_secret": SECRET} | changes)


def plain_routes(client: Client) -> list[Route]:
    return [route for route in routes_of(client.sidecar.parts) if not route.websocket]


async def answer(client: Client, route: Route, headers: dict[str, str] | None = None) -> tuple[int, str]:
    address = route.path.replace("{symbol}", "A").replace("{rule_type}", "a").replace("{delivery_id}", NOBODY)
    async with client.session.request(route.method, address, headers=headers, json=None) as response:
        text = await response.read()
    is_problem = response.status >= 400 and response.content_type == "application/json"
    return response.status, orjson.loads(text).get("error", "") if is_problem else ""


async def test_every_route_holds_to_the_access_it_declares(ready):
    async with running_sidecar(ready) as client:
        for route in plain_routes(client):
            nobody, user, admin = [
                await answer(client, route, headers) for headers in (None, bearer(), bearer(admin=True))
            ]
            if route.access is Access.PUBLIC:
                assert {nobody[0], user[0], admin[0]}.isdisjoint({401, 403}), route
            else:
                assert nobody == (401, "token_required"), route
                assert admin[0] not in (401, 403), route
                refused = user == (403, "admin_required")
                assert refused == (route.access is Access.ADMIN), route


async def test_what_changes_state_is_never_public(ready):
    async with running_sidecar(ready) as client:
        for route in routes_of(client.sidecar.parts):
            assert route.method == "GET" or route.access is not Access.PUBLIC, route


async def test_without_keys_settings_and_rule_changes_are_refused_whoever_asks(settings):
    await prepare(settings)
    async with running_sidecar(settings) as client:
        for route in plain_routes(client):
            if route.access is not Access.PUBLIC:
                for headers in (None, bearer(admin=True)):
                    assert await answer(client, route, headers) == (403, "auth_not_configured"), route
        # a token means nothing here, so it does no harm
        assert (await client.send("GET", "/api/rules", headers={"Authorization": "Bearer x"}))[0] == 200


async def test_a_token_that_is_no_good_is_never_ignored(ready):
    bad = {
        "Bearer nonsense": "token_invalid",
        f"Bearer {token(expires_in_s=-60)}": "token_expired",
        f"Bearer {token()[:-3]}": "token_invalid",
        f"Basic {token()}": "token_invalid",
        token(): "token_invalid",
        "Bearer": "token_invalid",
    }
    async with running_sidecar(ready) as client:
        for value, code in bad.items():
            for path in ("/api/rules", "/api/settings"):
                async with client.session.get(path, headers={"Authorization": value}) as response:
                    assert (response.status, (await response.json())["error"]) == (401, code), value
                    assert response.headers["WWW-Authenticate"].startswith("Bearer")
        twice = [("Authorization", f"Bearer {token()}"), ("Authorization", f"Bearer {token('bob')}")]
        async with client.session.get("/api/settings", headers=twice) as response:
            assert response.status == 401
        lower = {"authorization": f"bearer {token()}"}
        assert (await client.send("GET", "/api/settings", headers=lower))[0] == 200


async def test_users_may_be_known_by_published_keys(settings, tmp_path, monkeypatch):
    await prepare(settings)
    keys: list[dict[str, Any]] = [public_jwk("one", rsa_key(0))]
    async with https_server(tmp_path, lambda: web.json_response({"keys": keys})) as url:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        changes = {"jwt_secret": None, "jwt_jwks_url": f"{url}/keys", "jwt_algorithm": "RS256"}
        async with running_sidecar(with_users(settings, **changes)) as client:
            good = {"Authorization": f"Bearer {rsa_token('one', rsa_key(0))}"}
            status, body = await client.send("GET", "/api/settings", headers=good)
            assert (status, body["user_id"]) == (200, "ann")
            other = {"Authorization": f"Bearer {rsa_token('one', rsa_key(1))}"}
            assert (await client.send("GET", "/api/settings", headers=other))[0] == 401
    async with running_sidecar(with_users(settings, **changes)) as client:
        status, body = await client.send("GET", "/api/settings", headers=good)
        assert (status, body["error"]) == (503, "keys_unavailable")


async def test_all_answers_carry_an_id_and_headers_for_browsers(ready):
    requests = [
        ("GET", "/", 200),
        ("GET", "/api/symbols", 200),
        ("HEAD", "/api/symbols", 200),
        ("GET", "/api/symbols?x=1", 400),
        ("GET", "/api/settings", 401),
        ("GET", "/nothing", 404),
        ("POST", "/api/symbols", 405),
        ("GET", "/health/live", 200),
    ]
    async with running_sidecar(ready) as client:
        for method, path, status in requests:
            async with client.session.request(method, path) as response:
                assert response.status == status, path
                headers = response.headers
                assert headers["Server"] == "screener", "no version is told"
                assert headers["X-Content-Type-Options"] == "nosniff"
                assert headers["X-Frame-Options"] == "DENY"
                assert headers["Referrer-Policy"] == "no-referrer"
                assert headers["Content-Security-Policy"].startswith("default-src 'none'")
                assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
                assert len(headers["X-Request-ID"]) == 32


async def test_pages_of_listed_origins_may_send_requests_and_no_others(ready):
    ready = with_users(ready, allowed_origins=("https://good.example",))
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with running_sidecar(ready) as client:
        async with client.session.options(
            "/api/settings", headers={**asks, "Origin": "https://good.example"}
        ) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == "https://good.example"
            assert {"DELETE", "GET", "POST", "PUT"} <= set(
                response.headers["Access-Control-Allow-Methods"].split(", ")
            )
            assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
        for origin in (
            "https://good.example.evil.test",
            "https://evilgood.example",
            "http://good.example",
            "https://good.example:8443",
            "null",
        ):
            async with client.session.options(
                "/api/settings", headers={**asks, "Origin": origin}
            ) as response:
                assert response.status == 405, origin
                assert "Access-Control-Allow-Origin" not in response.headers


async def test_what_goes_wrong_inside_is_told_to_the_log_and_not_to_the_client():
    async def fail(_: web.Request) -> web.Response:
        raise RuntimeError("SELECT hush FROM 10.0.0.7")

    app = web.Application(middlewares=[request_ids(), errors_as_json()])
    RouteTable([Route("GET", "/fail", fail, Access.PUBLIC)]).add_to(app)
    async with TestClient(TestServer(app)) as client, client.get("/fail") as response:
        assert response.status == 500
        text = await response.text()
    message = "the request failed on the server; the error is logged"
    assert orjson.loads(text) == {"error": "internal", "message": message}


UNREADABLE = [
    b"GET / HTTP/1.1\r\nHost: a\r\nhush header\r\n\r\n",
    b"GET /" + b"hush" * 3000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nAuthorization: Bearer " + b"hush" * 3000 + b"\r\n\r\n",
    b"POST /api/rules HTTP/1.1\r\nHost: a\r\nContent-Length: hush\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"hush\r\n\r\n",
]


async def test_what_is_no_http_is_refused_without_repeating_it(ready, caplog):
    with capture_logs() as events:
        await _send_unreadable(ready)
    assert [event["event"] for event in events].count("request_unreadable") == len(UNREADABLE)
    assert "hush" not in repr(events) + caplog.text


async def _send_unreadable(ready: Settings) -> None:
    async with running_sidecar(ready) as client:
        for sent in UNREADABLE:
            reader, writer = await asyncio.open_connection("127.0.0.1", client.sidecar.port)
            writer.write(sent)
            head, _, body = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
            writer.close()
            assert head.split()[1] == b"400", sent[:60]
            assert b"aiohttp" not in head
            assert orjson.loads(body) == {
                "error": "bad_request",
                "message": "the request is invalid",
            }
        assert (await client.get("/api/symbols"))[0] == 200


async def test_an_expectation_with_bytes_that_are_not_text_is_answered_as_a_bad_request(ready):
    async with running_sidecar(ready) as client:
        for path in (b"/api/rules", b"/no/such/path"):
            reader, writer = await asyncio.open_connection("127.0.0.1", client.sidecar.port)
            writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nExpect: 100\xc8-continue\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 400"), path
            writer.close()
            await writer.wait_closed()


async def test_a_query_that_takes_too_long_is_given_up(ready):
    limits = replace(SidecarLimits(), query_timeout_s=0.3, connection_wait_s=0.5, database_connections=2)
    async with migrated(ready) as connection, running_sidecar(ready, limits) as client:
        async with connection.transaction():
            await connection.execute("LOCK TABLE alert_history, alert_rules IN ACCESS EXCLUSIVE MODE")
            answers = await asyncio.gather(
                *(client.get(path) for path in ("/api/alerts", "/api/rules") for _ in range(4))
            )
            assert {status for status, _ in answers} == {503}
            assert all(
                "lock" not in body["message"] and "timeout" not in body["message"] for _, body in answers
            )
            assert (await client.get("/api/symbols"))[0] == 200

        async def answers_again() -> bool:
            return (await client.get("/api/alerts"))[0] == 200

        await eventually(answers_again)


async def test_no_secret_is_in_the_log_or_the_command_line(ready, tmp_path):
    """A sidecar as a process of its own, at its most talkative, asked well and badly."""
    talkative = {**FREE_PORTS, "log_level": "debug", "log_format": "json"}
    log = tmp_path / "log"
    good, spoilt = token("ann", admin=True), token("bob", expires_in_s=-60)
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app", "run", "sidecar"),
            env=role_environ(ready.model_copy(update=talkative)),
            stderr=output,
            stdout=output,
        )
        try:
            url = await eventually(lambda: _url(log.read_bytes()), within_s=60)
            arguments = psutil.Process(process.pid).cmdline()
            async with aiohttp.ClientSession(url) as session:
                identifiers = [
                    identifier
                    for text in (good, spoilt, good[:-5], "hush-token")
                    for identifier in await _ask(session, text)
                ]
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), 30)
    written = log.read_text()
    urls = ready.server_urls()
    passwords = [url.split("@")[0].rpartition(":")[2] for url in (urls.postgres, urls.redis) if "@" in url]
    secrets = [SECRET, good, spoilt, "hush-token", "hush-hook", *passwords]
    events = [orjson.loads(line) for line in written.splitlines() if line.startswith("{")]
    answered = [event["request_id"] for event in events if event["event"] == "answered"]
    assert answered == identifiers
    assert {event["request_id"] for event in events if event["event"] == "settings_changed"} < set(answered)
    for secret in filter(lambda found: len(found) > 7, secrets):
        assert secret not in written
        assert not any(secret in argument for argument in arguments)


async def _ask(session: aiohttp.ClientSession, secret: str) -> list[str]:
    """The ids of the requests made."""
    found = []
    headers = {"Authorization": f"Bearer {secret}"}
    for path in ("/api/settings", "/api/rules", f"/api/settings?token={secret}"):
        async with session.get(path, headers=headers) as response:
            found.append(response.headers["X-Request-ID"])
    hook = {"webhook_url": "https://hooks.example/services/hush-hook?token=hush-hook"}
    for body in (hook, {**hook, "owner": "hush-hook"}):
        async with session.post("/api/settings", headers=headers, json=body) as response:
            found.append(response.headers["X-Request-ID"])
    return found


def _url(written: bytes) -> str | None:
    for line in written.splitlines():
        if b'"serving"' in line:
            found: str = orjson.loads(line)["url"]
            return found
    return None


async def test_a_body_that_does_not_come_is_not_waited_for(ready, monkeypatch):
    monkeypatch.setattr("app.sidecar.http.request_body._READ_TIMEOUT_S", 0.2)
    head = f"POST /api/settings HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token()}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    async with running_sidecar(ready) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.sidecar.port)
        writer.write(head.encode())
        answer = await asyncio.wait_for(reader.readline(), 20)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_two_routes_cannot_share_an_address():
    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    route = Route("GET", "/a", handler, Access.PUBLIC)
    with pytest.raises(ValueError, match="same method and path"):
        RouteTable([route, route])
