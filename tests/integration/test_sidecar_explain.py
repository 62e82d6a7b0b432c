"""GET /api/explain: now from memory, and at minutes of history from the stored candles."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import app.cli.candles.explain
import app.cli.rules.stored_rules
from app.backtest.explain_at import explain_at
from app.candles.batch import CandleBatch
from app.cli.commands.candles import explain
from app.database.connection import open_pool
from app.database.rule_store import RuleStore
from app.rules.alert import Alert, alert_id
from app.rules.alert_builder import build_alert
from app.rules.cooldown import decide
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule
from app.settings import Settings
from app.sinks.copy import write_alerts, write_candles
from app.times import rfc3339
from tests.support.alerts import make_alert, publish
from tests.support.candle_history import START_MS, candles
from tests.support.eventually import eventually
from tests.support.metric_batches import publish_metrics
from tests.support.metric_rows import Row, metrics_batch
from tests.support.sidecar import prepare, running_sidecar
from tests.support.tokens import SECRET, bearer

ADMIN = bearer("root", admin=True)
MINUTE_MS = 60_000
RISE = {"rule_type": "rise", "expression": "price_change_5m > 1 and close_5m > 50", "severity": "high"}
CROSS = {"rule_type": "cross", "expression": "crosses_above(price, 105)", "severity": "high"}


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await prepare(settings)
    return Settings.model_validate({**settings.model_dump(), "jwt_secret": SECRET})


async def store(settings: Settings, batch: CandleBatch, *alerts: Alert) -> None:
    async with await open_pool(settings.postgres()) as pool, pool.connection() as connection:
        await write_candles(connection, batch)
        await write_alerts(connection, alerts)


def closes() -> list[float]:
    """An hour at 100, then a rise of one percent a minute for ten minutes."""
    return [100.0] * 60 + [100.0 * 1.01**n for n in range(1, 11)]


def at(minute: int) -> str:
    return rfc3339(START_MS + minute * MINUTE_MS)


def alert(minute: int, rule: str = "rise", version: int = 1, seq: int = 7) -> Alert:
    time_ms = START_MS + minute * MINUTE_MS
    made: dict[str, Any] = make_alert(0, symbol="AUSDT") | {
        "id": alert_id(rule, version, "AUSDT", time_ms),
        "rule_type": rule,
        "timestamp": rfc3339(time_ms + MINUTE_MS),
    }
    return Alert.from_dict(made, seq)


async def test_a_minute_of_history_is_explained_from_its_candles(ready):
    batch = candles(closes())
    await store(ready, batch, alert(62))
    async with running_sidecar(ready) as client:
        await client.send("POST", "/api/rules", RISE, ADMIN)
        for minute, verdict in ((62, "fired"), (63, "held_back"), (30, "not_met"), (3, "unknown")):
            within = at(minute)[:-5] + ".500Z"
            status, body = await client.get("/api/explain", symbol="AUSDT", rule="rise", at=within)
            assert status == 200
            assert (body["verdict"], body["source"], body["minute"]) == (verdict, "history", at(minute)), (
                minute
            )
            expected = explain_at(Rule(**RISE), batch, START_MS + minute * MINUTE_MS)
            assert body["clause"] == expected.as_dict()
            assert body["missing"] == [part.as_dict() for part in expected.failing()]
        assert body["missing"][0]["null_because"].startswith("price_change_5m is null")
        _, within = await client.get("/api/explain", symbol="AUSDT", rule="rise", at=at(63)[:-5] + ".500Z")
        assert within["minute"] == at(63)
        assert within["alert"] is None
        assert within["last_alert"]["id"] == alert(62).id
        _, fired = await client.get("/api/explain", symbol="AUSDT", rule="rise", at=at(62))
        assert fired["alert"]["id"] == alert(62).id
        assert fired["note"].startswith("The alert kept no values")
        of_its_time = alert(62).timestamp
        assert of_its_time == at(63)
        assert (await client.get("/api/explain", symbol="AUSDT", rule="rise", at=of_its_time))[1] == fired
        first = fired["clause"]["parts"][0]
        assert first["value"] == pytest.approx((1.01**3 - 1) * 100)
        assert (first["threshold"], first["margin"]) == (1.0, pytest.approx(first["value"] - 1))


async def test_a_crossing_looks_at_the_minute_before(ready):
    batch = candles(closes())
    await store(ready, batch)
    crossed = int(np.argmax(batch.close > 105))
    async with running_sidecar(ready) as client:
        await client.send("POST", "/api/rules", CROSS, ADMIN)
        truths = [
            (await client.get("/api/explain", symbol="AUSDT", rule="cross", at=at(minute)))[1]["truth"]
            for minute in (crossed - 1, crossed, crossed + 1)
        ]
        assert truths == [False, True, False]
        # the minute that is forming is in memory only, the one before it in the database
        forming = START_MS + len(batch) * MINUTE_MS
        for price, truth in ((109.0, False), (111.0, False)):
            await publish_metrics(ready, [("AUSDT", forming, {"close_1m": price})])
            await eventually(lambda price=price: _close(client) == price)
            _, body = await client.get("/api/explain", symbol="AUSDT", rule="cross")
            assert (body["truth"], body["source"]) == (truth, "memory"), body
        await store(ready, candles([100.0], start=len(batch)))
        await publish_metrics(ready, [("AUSDT", forming + MINUTE_MS, {"close_1m": 111.0})])
        await eventually(lambda: client.sidecar.parts.latest.row("AUSDT").open_time_ms > forming)
        _, body = await client.get("/api/explain", symbol="AUSDT", rule="cross")
        assert (body["truth"], body["verdict"]) == (True, "held_back")


def _close(client) -> float | None:
    market = client.sidecar.parts.latest.market(0)
    return float(market.values[0, market.columns.index("close_1m")]) if len(market) else None


async def test_now_is_explained_from_memory(ready):
    async with running_sidecar(ready) as client:
        await client.send("POST", "/api/rules", {**RISE, "symbols": ["BUSDT"], "enabled": False}, ADMIN)
        await publish_metrics(ready, [("AUSDT", START_MS, {"price_change_5m": 1.5, "close_5m": 40.0})])
        await eventually(lambda: "AUSDT" in client.sidecar.parts.latest)
        status, body = await client.get("/api/explain", symbol="AUSDT", rule="rise")
        assert status == 200
        assert (body["verdict"], body["source"], body["enabled"], body["applies"]) == (
            "not_met", "memory", False, False,
        )  # fmt: skip
        assert body["missing"] == [
            {"text": "close_5m > 50", "truth": False, "value": 40.0, "threshold": 50.0, "margin": -10.0}
        ]
        _, same = await client.get("/api/explain", symbol="AUSDT", rule="rise", at=at(0))
        assert same == body


async def test_other_requests_for_an_explanation_are_refused(ready):
    await store(ready, candles([100.0] * 5))
    expected = {
        "/api/explain?rule=ichimoku_bull": (400, "missing_parameter"),
        "/api/explain?symbol=AUSDT": (400, "missing_parameter"),
        "/api/explain?symbol=AUSDT&rule=ichimoku_bull&at=now": (400, "bad_parameter"),
        "/api/explain?symbol=AUSDT&rule=no%20rule": (400, "bad_parameter"),
        "/api/explain?symbol=AUSDT&rule=ichimoku_bull&when=1": (400, "unknown_parameter"),
        "/api/explain?symbol=AUSDT&rule=no_rule": (404, "unknown_rule"),
        "/api/explain?symbol=AUSDT&rule=ichimoku_bull": (404, "unknown_symbol"),
        f"/api/explain?symbol=AUSDT&rule=ichimoku_bull&at={at(99)}": (404, "unknown_minute"),
        "/api/explain?symbol=AUSDT&rule=ichimoku_bull&at=1970-01-01T00:00:00Z": (404, "unknown_minute"),
        "/api/explain?symbol=AUSDT&rule=ichimoku_bull&at=9999-12-31T23:59:59Z": (404, "unknown_minute"),
    }
    found = {}
    async with running_sidecar(ready) as client:
        for path in expected:
            async with client.session.get(path) as response:
                found[path] = (response.status, (await response.json())["error"])
    assert found == expected


JUMP = Rule("jump", "crosses_above(price, 105) and prev(price) < 101", "high")


def live_alert(minute: int, event_after_ms: int, price: float) -> Alert:
    """As the alert worker makes it of an update of a forming minute."""
    rows = [
        Row("AUSDT", minute - 1, {"close_1m": 100.0}),
        Row("AUSDT", minute, {"close_1m": price}, False, START_MS + minute * MINUTE_MS + event_after_ms),
    ]
    book = RuleBook.compile([JUMP], "live")
    batch = metrics_batch(rows)
    [fire] = decide(Evaluator(book).evaluate(batch), batch, book, {}).fires
    return replace(build_alert(fire, batch, 0), seq=8)


@pytest.mark.parametrize("event_after_ms", [20_123, 60_000, 61_500], ids=["in", "at the end of", "after"])
async def test_an_alert_of_live_mode_is_explained_with_what_its_rule_saw_not_with_how_the_minute_closed(
    ready, event_after_ms
):
    found = live_alert(5, event_after_ms, 110.0)
    # the minute closed at 100 again
    await store(ready, candles([100.0] * 9), found)
    rule = {"rule_type": "jump", "expression": JUMP.expression, "severity": "high"}
    async with running_sidecar(ready) as client:
        await client.send("POST", "/api/rules", rule, ADMIN)
        for asked in (found.timestamp, at(5)):
            _, body = await client.get("/api/explain", symbol="AUSDT", rule="jump", at=asked)
            assert (body["verdict"], body["truth"], body["source"]) == ("fired", True, "alert")
            assert (body["minute"], body["missing"], body["note"]) == (at(5), [], None)
            assert body["alert"]["id"] == found.id == body["last_alert"]["id"]
            crossed, before = body["clause"]["parts"]
            assert [(part["value"], part["threshold"]) for part in crossed["parts"]] == [
                (100, 105),
                (110, 105),
            ]
            assert before["value"] == 100
        _, next_one = await client.get("/api/explain", symbol="AUSDT", rule="jump", at=at(7))
        assert (next_one["verdict"], next_one["source"], next_one["alert"]) == ("not_met", "history", None)
        # an edit of the rule does not change what fired
        await client.send("PUT", "/api/rules/jump", {**rule, "expression": "price < 1"}, ADMIN)
        _, body = await client.get("/api/explain", symbol="AUSDT", rule="jump", at=found.timestamp)
        assert (body["truth"], body["rule_version"], body["expression"]) == (True, 1, JUMP.expression)


async def test_an_alert_that_is_not_stored_yet_is_explained_with_what_its_rule_saw(ready):
    found = live_alert(5, 20_123, 110.0)
    rule = {"rule_type": "jump", "expression": JUMP.expression, "severity": "high"}
    async with running_sidecar(ready) as client:
        await client.send("POST", "/api/rules", rule, ADMIN)
        await publish(ready, [found.encode()])
        await eventually(lambda: len(client.sidecar.parts.alerts) == 1)
        _, body = await client.get("/api/explain", symbol="AUSDT", rule="jump", at=found.timestamp)
        assert (body["verdict"], body["truth"], body["source"], body["minute"]) == (
            "fired",
            True,
            "alert",
            at(5),
        )
        assert body["alert"]["id"] == found.id


async def test_the_command_explains_an_alert_with_what_its_rule_saw(ready, monkeypatch):
    found = live_alert(5, 20_123, 110.0)
    await store(ready, candles([100.0] * 9), found)
    monkeypatch.setattr(app.cli.candles.explain, "settings_here", lambda: ready)
    monkeypatch.setattr(app.cli.rules.stored_rules, "settings_here", lambda: ready)
    async with await open_pool(ready.postgres()) as pool:
        await RuleStore(pool).put(JUMP)
    arguments = ["jump", "AUSDT", "--at", found.timestamp]
    result = await asyncio.to_thread(CliRunner().invoke, explain, arguments)
    assert f"in the minute of {at(5)}, as the alert of" in result.output, result
    assert ": true\n" in result.output
