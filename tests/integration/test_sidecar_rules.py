"""Rules over REST: read by anybody, changed by administrators, refused with what is wrong and where."""

from __future__ import annotations

from typing import Any

import pytest

from app.rules.files import MAX_RULES, shipped_rules
from app.settings import Settings
from tests.support.database import migrated
from tests.support.sidecar import prepare, running_sidecar
from tests.support.tokens import SECRET, bearer

ADMIN = bearer("root", admin=True)
RULE: dict[str, Any] = {
    "rule_type": "my_rule",
    "expression": "price_change_5m > 2 and volume_5m > 100k",
    "severity": "high",
}
WHOLE = {
    **RULE,
    "cooldown_s": 300,
    "description": "",
    "version": 1,
    "enabled": True,
    "mode": None,
    "symbols": None,
    "hold_s": 0,
    "shadow": False,
    "state": "active",
}


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await prepare(settings)
    return Settings.model_validate({**settings.model_dump(), "jwt_secret": SECRET})


async def test_a_rule_is_created_replaced_and_deleted_by_administrators(ready):
    async with running_sidecar(ready) as client:
        _, before = await client.get("/api/rules")
        assert {rule["rule_type"] for rule in before["rules"]} == {rule.rule_type for rule in shipped_rules()}
        assert await client.send("POST", "/api/rules", RULE, ADMIN) == (201, WHOLE)
        assert await client.get("/api/rules/my_rule") == (200, WHOLE)
        status, body = await client.send("POST", "/api/rules", RULE, ADMIN)
        assert (status, body["error"]) == (409, "rule_exists")
        louder = {k: v for k, v in WHOLE.items() if k not in ("version", "state")} | {
            "severity": "critical",
            "symbols": ["BTCUSDT"],
            "hold_s": 60,
            "mode": "close",
        }
        status, body = await client.send("PUT", "/api/rules/my_rule", louder, ADMIN)
        assert (status, body) == (200, {**WHOLE, **louder, "version": 2})
        _, after = await client.get("/api/rules")
        assert [rule for rule in after["rules"] if rule["rule_type"] == "my_rule"] == [body]
        assert await client.send("DELETE", "/api/rules/my_rule", headers=ADMIN) == (204, None)
        assert (await client.get("/api/rules/my_rule"))[0] == 404
        assert (await client.send("DELETE", "/api/rules/my_rule", headers=ADMIN))[0] == 404
        new = {"expression": "price > 1", "severity": "info"}
        assert (await client.send("PUT", "/api/rules/another", new, ADMIN))[1]["rule_type"] == "another"


BAD_RULES: list[tuple[dict[str, Any], str]] = [
    ({"expression": 7}, "bad_rule"),
    ({"expression": None}, "bad_rule"),
    ({"severity": "urgent"}, "bad_rule"),
    ({"severity": ["high"]}, "bad_rule"),
    ({"cooldown_s": -1}, "bad_rule"),
    ({"cooldown_s": 1.5}, "bad_rule"),
    ({"cooldown_s": True}, "bad_rule"),
    ({"cooldown_s": 10**400}, "bad_body"),
    ({"enabled": "yes"}, "bad_rule"),
    ({"mode": "often"}, "bad_rule"),
    ({"mode": []}, "bad_rule"),
    ({"symbols": []}, "bad_rule"),
    ({"symbols": "BTCUSDT"}, "bad_rule"),
    ({"symbols": [1]}, "bad_rule"),
    ({"symbols": ["A" * 65]}, "bad_rule"),
    ({"hold_s": 86_401}, "bad_rule"),
    ({"description": "x" * 1001}, "bad_rule"),
    ({"description": "a\x00b"}, "bad_body"),
    ({"rule_type": "My Rule"}, "bad_rule"),
    ({"rule_type": 5}, "bad_rule"),
    ({"expression": "1 > 0"}, "bad_rule"),
    ({"owner": "bob"}, "unknown_field"),
    ({"id": 1}, "unknown_field"),
    ({"version": 3}, "read_only_field"),
    ({"updated_at": "2024-01-01T00:00:00Z"}, "read_only_field"),
]


async def test_what_is_no_rule_is_refused_and_changes_nothing(ready):
    async with running_sidecar(ready) as client:
        _, before = await client.get("/api/rules")
        for change, code in BAD_RULES:
            status, body = await client.send("POST", "/api/rules", RULE | change, ADMIN)
            assert (status, body["error"]) == (400, code), change
        for field in RULE:
            status, body = await client.send(
                "POST", "/api/rules", {k: v for k, v in RULE.items() if k != field}, ADMIN
            )
            assert (status, body["error"], field in body["message"]) == (400, "bad_rule", True)
        status, body = await client.send("PUT", "/api/rules/other", RULE, ADMIN)
        assert (status, body["error"]) == (400, "bad_rule")
        faults = {
            "cooldwn_s": 5,
            "owner": "bob",
            "version": 3,
            "severity": "urgent",
            "expression": "prce > 1",
        }
        words = ("'cooldwn_s'", "'owner'", "cooldown_s?", "version: cannot", "'urgent'", "`prce`")
        for method, path in (("POST", "/api/rules"), ("PUT", "/api/rules/steep")):
            _, body = await client.send(method, path, RULE | faults, ADMIN)
            assert all(word in body["message"] for word in words)
            assert [fault["field"] for fault in body["faults"]] == ["severity", "expression"]
        assert await client.get("/api/rules") == (200, before)


async def test_a_fault_in_an_expression_is_told_with_its_position(ready):
    faults = {
        "price_change_5m > 2 and rsy_14_5m > 70": 24,
        "price_change_5m >": 17,
        "price_change_5m > 2)": 19,
        "price_change_5m + 2": 0,
        "__import__('os').system('true')": 0,
        "(" * 3000: 2000,
        "": 0,
    }
    async with running_sidecar(ready) as client:
        for expression, position in faults.items():
            status, body = await client.send("POST", "/api/rules", RULE | {"expression": expression}, ADMIN)
            assert (status, body["error"]) == (400, "bad_expression"), expression
            assert body["position"] == position, (expression, body)
        faulty = {"expression": "prce > 1 and rsy_14_5m = 2", "severity": "urgent"}
        _, body = await client.send("POST", "/api/rules", RULE | faulty, ADMIN)
        told = [(fault["field"], fault["position"]) for fault in body["faults"]]
        assert told == [("severity", None), ("expression", 0), ("expression", 13), ("expression", 23)]
        assert all(fault["message"] in body["message"] for fault in body["faults"])
        assert (
            "did you mean"
            in (await client.send("POST", "/api/rules", RULE | {"expression": "rsy_14_5m > 1"}, ADMIN))[1][
                "message"
            ]
        )


async def test_bodies_that_are_no_json_objects_are_refused(ready):
    plain = {**ADMIN, "Content-Type": "text/plain"}
    json_type = {**ADMIN, "Content-Type": "application/json"}
    packed = {**json_type, "Content-Encoding": "deflate"}
    cases: list[tuple[bytes, dict[str, str], int, str]] = [
        (b"{}", plain, 415, "unsupported_media_type"),
        (b"", json_type, 400, "bad_body"),
        (b"{", json_type, 400, "bad_body"),
        (b"[]", json_type, 400, "bad_body"),
        (b"NaN", json_type, 400, "bad_body"),
        (b'{"rule_type": "\xff"}', json_type, 400, "bad_body"),
        (b"[" * 5000, json_type, 400, "bad_body"),
        (b'{"description": "' + b"x" * 70_000 + b'"}', json_type, 413, "too_large"),
        (b"x\x9c\xab\xae\x05\x00\x01u\x00\xf9", packed, 415, "unsupported_media_type"),
    ]
    async with running_sidecar(ready) as client:
        for body, headers, status, code in cases:
            found, answer = await client.send("POST", "/api/rules", body, headers)
            assert (found, answer["error"]) == (status, code), body[:20]


async def test_there_are_at_most_so_many_rules(ready):
    async with migrated(ready) as connection:
        await connection.execute(
            "INSERT INTO alert_rules (rule_type, expression, severity) "
            "SELECT 'filler_' || n, 'price > 1', 'info' "
            "FROM generate_series(1, %s - (SELECT count(*) FROM alert_rules)) AS n",
            (MAX_RULES,),
        )
        async with running_sidecar(ready) as client:
            status, body = await client.send("POST", "/api/rules", RULE, ADMIN)
            assert (status, body["error"]) == (409, "too_many_rules")


async def test_a_stored_row_that_is_no_rule_is_reported_beside_the_good_ones(ready):
    async with migrated(ready) as connection, running_sidecar(ready) as client:
        await connection.execute(
            "INSERT INTO alert_rules (rule_type, expression, severity) VALUES ('broken', 'rsy > 1', 'info')"
        )
        _, body = await client.get("/api/rules")
        assert "rsy" in body["refused"]["broken"]
        assert len(body["rules"]) == len(shipped_rules())
        status, body = await client.get("/api/rules/broken")
        assert (status, body["error"]) == (409, "rule_refused")


async def test_without_tables_rules_are_unavailable_without_internals(settings):
    async with running_sidecar(settings, wait_ready=False) as client:
        assert await client.get("/api/rules") == (
            503,
            {"error": "unavailable", "message": "the rules cannot be reached now; retry"},
        )
