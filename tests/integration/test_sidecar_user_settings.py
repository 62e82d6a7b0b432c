"""/api/settings and /api/me: each caller's own, and nobody else's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.settings import Settings
from app.sidecar.rest.settings import MOST_SELECTED, MOST_SUBSCRIPTIONS
from tests.support.sidecar import prepare, running_sidecar
from tests.support.tokens import SECRET, bearer

ANN, BOB = bearer("ann"), bearer("bob")
NOTHING = {
    "user_id": "ann",
    "selected_alerts": [],
    "webhook_url": None,
    "notification_enabled": False,
    "subscriptions": [],
    "updated_at": None,
    "webhook": None,
}


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await prepare(settings)
    return Settings.model_validate({**settings.model_dump(), "jwt_secret": SECRET})


async def test_a_user_begins_with_nothing_and_changes_field_by_field(ready):
    async with running_sidecar(ready) as client:
        assert await client.send("GET", "/api/settings", headers=ANN) == (200, NOTHING)
        changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
            (
                {"selected_alerts": ["ichimoku_bull", "*", "ichimoku_bull"]},
                {"selected_alerts": ["ichimoku_bull", "*"]},
            ),
            ({"webhook_url": "https://hooks.example/a?b"}, {"webhook_url": "https://hooks.example/a?b"}),
            ({"notification_enabled": True}, {"notification_enabled": True}),
            (
                {"subscriptions": [{"rule_type": "*", "symbol": "ETHUSDT"}, {"rule_type": "bull_whale"}]},
                {
                    "subscriptions": [
                        {"rule_type": "*", "symbol": "ETHUSDT"},
                        {"rule_type": "bull_whale", "symbol": "*"},
                    ]
                },
            ),
            (
                {
                    "subscriptions": [{"rule_type": "bull_whale", "symbol": "*"}],
                    "notification_enabled": False,
                },
                {
                    "subscriptions": [{"rule_type": "bull_whale", "symbol": "*"}],
                    "notification_enabled": False,
                },
            ),
            ({"webhook_url": None}, {"webhook_url": None}),
            ({"selected_alerts": [], "subscriptions": []}, {"selected_alerts": [], "subscriptions": []}),
            ({}, {}),
        ]
        expected: dict[str, Any] = dict(NOTHING)
        for change, visible in changes:
            status, body = await client.send("POST", "/api/settings", change, ANN)
            assert status == 200, body
            expected |= visible
            assert body.pop("updated_at").endswith("Z")
            body["webhook"] = None
            assert body == {k: v for k, v in expected.items() if k != "updated_at"}, change
            _, read = await client.send("GET", "/api/settings", headers=ANN)
            read["webhook"] = None
            assert {k: v for k, v in read.items() if k != "updated_at"} == body


async def test_whoever_sets_a_webhook_is_told_its_secret_and_its_state(ready):
    async with running_sidecar(ready) as client:
        url = {"webhook_url": "https://hooks.example/a", "notification_enabled": True}
        _, body = await client.send("POST", "/api/settings", url, ANN)
        webhook = body["webhook"]
        assert webhook.pop("secret").startswith("whsec_")
        assert webhook == {
            "format": "json",
            "enabled": True,
            "disabled_reason": None,
            "failures": 0,
            "last_success": None,
        }
        _, again = await client.send("GET", "/api/settings", headers=ANN)
        _, off = await client.send("POST", "/api/settings", {"notification_enabled": False}, ANN)
        assert off["webhook"] == {**again["webhook"], "enabled": False, "disabled_reason": "off"}
        _, other = await client.send(
            "POST", "/api/settings", {**url, "webhook_url": "https://other.example"}, ANN
        )
        assert other["webhook"]["enabled"]
        assert other["webhook"]["secret"] != again["webhook"]["secret"]
        _, gone = await client.send("POST", "/api/settings", {"webhook_url": None}, ANN)
        assert gone["webhook"] is None
        assert (await client.send("GET", "/api/settings", headers=BOB))[1]["webhook"] is None


async def test_nobody_sees_or_changes_the_settings_of_another(ready):
    async with running_sidecar(ready) as client:
        await client.send("POST", "/api/settings", {"webhook_url": "https://ann.example/"}, ANN)
        await client.send("POST", "/api/settings", {"notification_enabled": True}, BOB)
        for body in ({"user_id": "ann", "webhook_url": None}, {"user_id": "ann"}):
            status, answer = await client.send("POST", "/api/settings", body, BOB)
            assert (status, answer["error"]) == (400, "read_only_field")
        for path in ("/api/settings/ann", "/api/settings?user_id=ann"):
            assert (await client.send("GET", path, headers=BOB))[0] in (400, 404)
        _, ann = await client.send("GET", "/api/settings", headers=ANN)
        _, bob = await client.send("GET", "/api/settings", headers=BOB)
    assert (ann["user_id"], ann["webhook_url"], ann["notification_enabled"]) == (
        "ann",
        "https://ann.example/",
        False,
    )
    assert (bob["user_id"], bob["webhook_url"], bob["notification_enabled"]) == ("bob", None, True)


BAD_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"selected_alerts": None}, "bad_field"),
    ({"selected_alerts": "ichimoku_bull"}, "bad_field"),
    ({"selected_alerts": [1]}, "bad_field"),
    ({"selected_alerts": ["a b"]}, "bad_field"),
    ({"selected_alerts": ["*"] * (MOST_SELECTED + 1)}, "bad_field"),
    ({"selected_alerts": ["no_such_rule"]}, "unknown_rule"),
    ({"notification_enabled": "yes"}, "bad_field"),
    ({"notification_enabled": None}, "bad_field"),
    ({"webhook_url": 7}, "bad_field"),
    ({"webhook_url": "http://hooks.example/"}, "bad_field"),
    ({"webhook_url": "https://127.0.0.1/"}, "bad_field"),
    ({"webhook_url": "https://169.254.169.254/latest/meta-data"}, "bad_field"),
    ({"webhook_url": "https://hooks.example:8080/"}, "bad_field"),
    ({"webhook_url": "https://user:pass@hooks.example/"}, "bad_field"),
    ({"webhook_url": "https://api.telegram.org/bot1:pass@/sendMessage"}, "bad_field"),
    ({"subscriptions": None}, "bad_field"),
    ({"subscriptions": [{}]}, "bad_field"),
    ({"subscriptions": ["*"]}, "bad_field"),
    ({"subscriptions": [{"rule_type": "*", "symbol": "btc usdt"}]}, "bad_field"),
    ({"subscriptions": [{"rule_type": "*", "symbol": None}]}, "bad_field"),
    ({"subscriptions": [{"rule_type": 1}]}, "bad_field"),
    ({"subscriptions": [{"rule_type": "*", "owner": "bob"}]}, "bad_field"),
    ({"subscriptions": [{"rule_type": "no_such_rule"}]}, "unknown_rule"),
    ({"subscriptions": [{"rule_type": "*"}] * (MOST_SUBSCRIPTIONS + 1)}, "bad_field"),
    ({"id": 1}, "unknown_field"),
    ({"owner": "bob"}, "unknown_field"),
    ({"admin": True}, "unknown_field"),
    ({"updated_at": None}, "read_only_field"),
    ({"webhook": {"secret": "mine"}}, "read_only_field"),
]


async def test_bad_changes_are_refused_whole(ready):
    async with running_sidecar(ready) as client:
        for change, code in BAD_CHANGES:
            status, body = await client.send(
                "POST", "/api/settings", {"notification_enabled": True} | change, ANN
            )
            assert (status, body["error"]) == (400, code), change
            assert "pass@" not in body["message"]
        assert await client.send("GET", "/api/settings", headers=ANN) == (200, NOTHING)
        at_most = [{"rule_type": "*", "symbol": f"S{n}"} for n in range(MOST_SUBSCRIPTIONS)]
        status, body = await client.send("POST", "/api/settings", {"subscriptions": at_most}, ANN)
        assert (status, len(body["subscriptions"])) == (200, MOST_SUBSCRIPTIONS)


async def test_a_document_is_stored_for_its_user_alone_and_only_over_the_version_that_was_read(ready):
    async with running_sidecar(ready) as client:
        nothing = {"user_id": "ann", "version": 0, "updated_at": None, "document": {}}
        assert await client.send("GET", "/api/me", headers=ANN) == (200, nothing)
        first, second = ({"columns": [f"{name}:1m"]} for name in ("close", "open"))
        changed = {"error": "changed_elsewhere"}
        for version, document, status, version_after in (
            (1, first, 409, 0),
            (0, first, 200, 1),
            (0, second, 409, 1),
            (1, second, 200, 2),
            (1, first, 409, 2),
        ):
            change = {"version": version, "document": document}
            found, body = await client.send("PUT", "/api/me", change, ANN)
            assert found == status, (change, body)
            assert (
                body | (changed if status == 409 else {"version": version_after, "document": document})
                == body
            )
            assert (await client.send("GET", "/api/me", headers=ANN))[1]["version"] == version_after
        _, ann = await client.send("GET", "/api/me", headers=ANN)
        assert (ann["document"], ann["updated_at"][-1]) == (second, "Z")
        assert (await client.send("GET", "/api/me", headers=BOB))[1]["document"] == {}


async def test_of_two_who_store_at_once_one_is_refused(ready):
    async with running_sidecar(ready) as client:
        for version in range(3):
            change = {"version": version, "document": {}}
            answers = await asyncio.gather(*(client.send("PUT", "/api/me", change, ANN) for _ in range(4)))
            assert sorted(status for status, _ in answers) == [200, 409, 409, 409]


async def test_a_document_that_fits_no_schema_is_refused_whole(ready):
    async with running_sidecar(ready) as client:
        kept = {"watchlists": [{"name": "Majors", "symbols": ["BTCUSDT"]}]}
        assert (await client.send("PUT", "/api/me", {"version": 0, "document": kept}, ANN))[0] == 200
        changes: list[tuple[dict[str, Any], str]] = [
            ({"document": {}}, "bad_field"),
            ({"version": True, "document": {}}, "bad_field"),
            ({"version": 1}, "bad_field"),
            ({"version": 1, "document": []}, "bad_field"),
            ({"version": 1, "document": {"owner": "bob"}}, "bad_field"),
            ({"version": 1, "document": {}, "user_id": "bob"}, "read_only_field"),
            ({"version": 1, "document": {}, "admin": True}, "unknown_field"),
        ]
        for change, code in changes:
            status, body = await client.send("PUT", "/api/me", change, ANN)
            assert (status, body["error"]) == (400, code), change
        assert (await client.send("PUT", "/api/me", {"version": 1, "document": {}}))[0] == 401
        _, found = await client.send("GET", "/api/me", headers=ANN)
        assert (found["version"], found["document"]) == (1, kept)


async def test_without_tables_settings_are_unavailable_without_internals(settings):
    settings = Settings.model_validate({**settings.model_dump(), "jwt_secret": SECRET})
    async with running_sidecar(settings, wait_ready=False) as client:
        answers = [
            await client.send("GET", "/api/settings", headers=ANN),
            await client.send("POST", "/api/settings", {"notification_enabled": True}, ANN),
        ]
        documents = [
            await client.send("GET", "/api/me", headers=ANN),
            await client.send("PUT", "/api/me", {"version": 0, "document": {}}, ANN),
        ]
    problem = {"error": "unavailable", "message": "the settings cannot be reached now; retry"}
    assert answers == [(503, problem)] * 2
    problem = {"error": "unavailable", "message": "your document cannot be reached now; retry"}
    assert documents == [(503, problem)] * 2
