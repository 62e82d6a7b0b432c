"""The texts of a rule's versions, whoever changed it, and how often each rule fired."""

from __future__ import annotations

import pytest

from app.clock import SystemClock
from app.settings import Settings
from app.times import rfc3339
from tests.support.alerts import make_alert, store
from tests.support.database import migrated
from tests.support.sidecar import prepare, running_sidecar
from tests.support.tokens import SECRET, bearer

ADMIN = bearer("root", admin=True)
RULE = {"rule_type": "mine", "expression": "price > 1", "severity": "high"}


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await prepare(settings)
    return Settings.model_validate({**settings.model_dump(), "jwt_secret": SECRET})


async def test_every_version_of_a_rule_keeps_its_text(ready):
    async with migrated(ready) as connection, running_sidecar(ready) as client:
        await client.send("POST", "/api/rules", RULE, ADMIN)
        await client.send("PUT", "/api/rules/mine", {**RULE, "expression": "price > 2"}, ADMIN)
        # what does not change the meaning makes no version
        await client.send(
            "PUT", "/api/rules/mine", {**RULE, "expression": "price > 2", "cooldown_s": 7}, ADMIN
        )
        await connection.execute("UPDATE alert_rules SET hold_s = 60 WHERE rule_type = 'mine'")
        status, body = await client.get("/api/rules/mine/versions")
        assert status == 200
        assert all(one.pop("stored_at") for one in body["versions"])
        assert body["versions"] == [
            {"version": 3, "expression": "price > 2", "mode": None, "hold_s": 60},
            {"version": 2, "expression": "price > 2", "mode": None, "hold_s": 0},
            {"version": 1, "expression": "price > 1", "mode": None, "hold_s": 0},
        ]
        _, shipped = await client.get("/api/rules/futures_pioneer_bull/versions")
        assert [one["version"] for one in shipped["versions"]] == [1]
        await client.send("DELETE", "/api/rules/mine", headers=ADMIN)
        assert len((await client.get("/api/rules/mine/versions"))[1]["versions"]) == 3
        assert (await client.get("/api/rules/none/versions"))[0] == 404
        await client.send("POST", "/api/rules", RULE, ADMIN)
        for number in range(4, 112):
            await connection.execute(
                "UPDATE alert_rules SET expression = %s, version = %s WHERE rule_type = 'mine'",
                (f"price > {number}", number),
            )
        _, body = await client.get("/api/rules/mine/versions")
        assert [one["version"] for one in body["versions"]] == list(range(111, 11, -1))


async def test_the_alerts_of_each_rule_are_counted_and_the_newest_is_told(ready):
    now_ms = SystemClock().now_ms()
    ages_h = {"futures_pioneer_bull": (1, 5, 30), "futures_top_hunter": (100,)}
    found = [
        make_alert(n, symbol=f"S{age_h}USDT")
        | {"rule_type": rule, "timestamp": rfc3339(now_ms - age_h * 3_600_000)}
        for n, (rule, age_h) in enumerate((rule, age_h) for rule, ages in ages_h.items() for age_h in ages)
    ]
    await store(ready, range(len(found)), found)
    async with running_sidecar(ready) as client:
        for hours in (2, 24, 168):
            _, body = await client.get("/api/rule-activity", hours=str(hours))
            for rule, ages in ages_h.items():
                told = body["rules"][rule]
                assert told["fired"] == sum(age < hours for age in ages)
                assert told["last"]["symbol"] == f"S{min(ages)}USDT"
            assert body["rules"]["ichimoku_bull"] == {"fired": 0, "last": None}
        for hours in ("0", "169", "x"):
            assert (await client.get("/api/rule-activity", hours=hours))[0] == 400
