"""/api/webhook: each caller's own target, its secret and its deliveries, and nobody else's."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from psycopg import AsyncConnection

from app.clock import SystemClock
from app.database.connection import connection_url, open_pool
from app.rules.alert import Alert
from app.settings import Settings
from app.webhooks.delivery.outbox import route
from app.webhooks.delivery.post import webhook_client
from app.webhooks.delivery.sender import Sender, SenderLimits
from app.webhooks.targets.settings_targets import follow_settings
from app.webhooks.targets.urls import AllowedHosts
from tests.support.alerts import make_alert
from tests.support.described import faults_of_answer
from tests.support.metric_values import UNREAD
from tests.support.sidecar import Client, prepare, running_sidecar
from tests.support.tokens import SECRET, bearer
from tests.support.webhooks import LOOPBACK, NOTED_NOWHERE, receiving

ANN, BOB = bearer("ann"), bearer("bob")


@dataclass(frozen=True)
class Api:
    settings: Settings
    client: Client

    async def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] = ANN
    ) -> tuple[int, Any]:
        """The answer, which is as described."""
        status, answer = await self.client.send(method, f"/api/webhook{path}", body, headers)
        address = re.sub(r"^/deliveries/[^/?]+", "/deliveries/{delivery_id}", path.partition("?")[0])
        assert faults_of_answer(method, f"/api/webhook{address}", status, answer) == []
        return status, answer

    async def has_url(self, url: str | None, headers: dict[str, str] = ANN) -> None:
        """On loopback: the API takes no such URL of a user, so a public one makes way for it in the database."""
        public = None if url is None else url.replace("http://127.0.0.1:", "https://receiver.example/")
        change = {"webhook_url": public, "notification_enabled": True, "selected_alerts": ["*"]}
        assert (await self.client.send("POST", "/api/settings", change, headers))[0] == 200
        async with await AsyncConnection.connect(
            connection_url(self.settings.postgres()), autocommit=True
        ) as connection:
            for statement in (
                "UPDATE webhook_targets SET url = %(url)s WHERE url = %(public)s",
                "UPDATE user_settings SET webhook_url = %(url)s WHERE webhook_url = %(public)s",
            ):
                await connection.execute(statement, {"url": url, "public": public})

    async def secret(self, headers: dict[str, str] = ANN) -> str:
        status, settings = await self.client.send("GET", "/api/settings", headers=headers)
        assert faults_of_answer("GET", "/api/settings", status, settings) == []
        return str(settings["webhook"]["secret"])

    async def alert(self, number: int) -> None:
        """As the role writes it."""
        now_ms = SystemClock().now_ms()
        alert = Alert.from_dict(make_alert(number) | {"timings": {"publish_ts_ms": now_ms}}, number)
        async with await AsyncConnection.connect(
            connection_url(self.settings.postgres()), autocommit=True
        ) as connection:
            await follow_settings(connection, now_ms)
            await route(connection, [alert], now_ms)

    async def deliver(self) -> None:
        clock, allowed = SystemClock(), AllowedHosts.of(self.settings.webhook_allowed_hosts)
        async with (
            await open_pool(self.settings.postgres(), max_size=1) as pool,
            webhook_client(allowed, 5.0, clock, 10, users=allowed) as sends,
        ):
            await Sender(
                pool, sends, SenderLimits(10, 1, 5.0), clock, lambda: 0.0, NOTED_NOWHERE, UNREAD
            ).deliver_due()


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    await prepare(settings)
    async with serving(settings) as made:
        yield made


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Api]:
    with_users = Settings.model_validate({**settings.model_dump(), "jwt_secret": SECRET, **LOOPBACK})
    async with running_sidecar(with_users) as client:
        yield Api(with_users, client)


async def test_a_user_follows_the_target_from_the_settings_to_a_delivery(api: Api) -> None:
    status, body = await api("GET", "")
    assert (status, body["error"]) == (404, "no_webhook")
    async with receiving() as receiver:
        await api.has_url(receiver.url + "?hush")
        status, target = await api("GET", "")
        assert (status, target["format"], target["enabled"], target["digest_s"]) == (200, "json", True, 0)
        assert "hush" not in str(target)
        status, queued = await api("POST", "/test")
        assert status == 202
        await api.alert(3)
        await api.deliver()
        _, listed = await api("GET", "/deliveries?status=delivered")
        assert {one["rule_type"] for one in listed["deliveries"]} == {"webhook_test", "futures_pioneer_bull"}
        status, shown = await api("GET", f"/deliveries/{queued['delivery_id']}")
        assert (status, shown["status"]) == (200, "delivered")
        assert [(one["attempt"], one["outcome"]) for one in shown["log"]] == [(1, "delivered")]
        status, again = await api("POST", f"/deliveries/{queued['delivery_id']}")
        assert (status, again) == (202, queued)
        await api.deliver()
    assert sorted(one.json["type"] for one in receiver.received) == [
        "alert.fired",
        "webhook.test",
        "webhook.test",
    ]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/hook", "https://127.0.0.1/hook"])
async def test_hosts_that_operators_allow_themselves_are_refused_to_users(api: Api, url: str) -> None:
    status, body = await api.client.send("POST", "/api/settings", {"webhook_url": url}, ANN)
    assert (status, body["error"]) == (400, "bad_field")
    assert "webhook_url" in body["message"]


async def test_a_test_message_is_the_newest_delivery_whatever_alerts_came_before(api: Api) -> None:
    async with receiving() as receiver:
        await api.has_url(receiver.url)
        await api.alert(3)
        _, queued = await api("POST", "/test")
        _, listed = await api("GET", "/deliveries?limit=1")
    assert [one["id"] for one in listed["deliveries"]] == [queued["delivery_id"]]


async def test_a_user_changes_digest_and_secret_and_goes_on_after_410(api: Api) -> None:
    async with receiving() as receiver:
        receiver.says(410)
        await api.has_url(receiver.url)
        assert (await api("POST", "", {"digest_s": 60}))[1]["digest_s"] == 60
        assert (await api("POST", "", {"digest_s": 0}))[1]["digest_s"] == 0
        first = await api.secret()
        _, rotated = await api("POST", "/secret", {"overlap_hours": 1})
        assert first != rotated["secret"] == await api.secret()
        assert (await api("GET", ""))[1]["previous_secret_until"] is not None
        await api.alert(1)
        await api.deliver()
        _, off = await api("GET", "")
        assert (off["enabled"], off["disabled_reason"], off["dead"]) == (False, "gone", 1)
        assert (await api("POST", "/test"))[0] == 404
        assert (await api("POST", "", {"enabled": True}))[1]["enabled"]


async def test_nobody_reaches_the_target_or_a_delivery_of_another(api: Api) -> None:
    async with receiving() as receiver:
        await api.has_url(receiver.url)
        await api.has_url(receiver.url, BOB)
        await api.alert(1)
        _, ann = await api("GET", "")
        _, bob = await api("GET", "", headers=BOB)
        assert ann["id"] != bob["id"]
        assert await api.secret() != await api.secret(BOB)
        _, listed = await api("GET", "/deliveries")
        [delivery] = listed["deliveries"]
        for method in ("GET", "POST"):
            status, body = await api(method, f"/deliveries/{delivery['id']}", headers=BOB)
            assert (status, body["error"]) == (404, "no_such_webhook")
        for body in ({"user_id": "ann", "digest_s": 60}, {"id": ann["id"]}):
            assert (await api("POST", "", body, BOB))[0] == 400
        assert (await api("GET", ""))[1] == ann


REFUSED: list[tuple[str, str, Any, int]] = [
    ("POST", "", {"digest_s": -1}, 400),
    ("POST", "", {"digest_s": 3601}, 400),
    ("POST", "", {"digest_s": True}, 400),
    ("POST", "", {"digest_s": None}, 400),
    ("POST", "", {"enabled": False}, 400),
    ("POST", "", {"url": "https://example.com/"}, 400),
    ("POST", "/secret", {"overlap_hours": 721}, 400),
    ("POST", "/secret", {"secret": "whsec_AAAA"}, 400),
    ("GET", "/deliveries?limit=0", None, 400),
    ("GET", "/deliveries?limit=201", None, 400),
    ("GET", "/deliveries?status=lost", None, 400),
    ("GET", "/deliveries/junk", None, 404),
    ("POST", f"/deliveries/{uuid4()}", None, 404),
]


async def test_what_cannot_be_asked_is_refused(api: Api) -> None:
    await api.has_url("https://example.com/hook")
    for method, path, body, status in REFUSED:
        assert (await api(method, path, body))[0] == status, (method, path, body)
