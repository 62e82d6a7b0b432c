"""GET /api/backtest: a rule tried on the stored minutes, in a process that may die and never outlives the sidecar."""

from __future__ import annotations

import asyncio
from typing import Any

import psutil
import pytest

from app.backtest.trial import Trial
from app.candles.batch import MINUTE_MS, CandleBatch, concatenate
from app.database.connection import open_pool
from app.rules.rule import Rule
from app.settings import Settings
from app.sinks.copy import write_candles
from app.times import rfc3339
from tests.support.candle_history import START_MS, candles
from tests.support.eventually import eventually
from tests.support.metric_batches import publish_metrics
from tests.support.sidecar import Client, prepare, running_sidecar
from tests.unit.test_backtest_trial import MINUTES, walks

RULE = "price_change_5m > 0.8"
STARTED_WITHIN_S = 240.0
"""The process may have to compile first."""


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await prepare(settings)
    return settings


async def store(settings: Settings, batch: CandleBatch) -> None:
    async with await open_pool(settings.postgres()) as pool, pool.connection() as connection:
        await write_candles(connection, batch)


async def started(client: Client) -> None:
    """The process tries rules."""

    async def tries() -> bool:
        return (await client.get("/api/backtest", expression=RULE))[0] == 200

    await eventually(tries, STARTED_WITHIN_S)


async def test_a_rule_is_tried_on_the_stored_minutes(ready, monkeypatch):
    history = concatenate([candles(prices, symbol) for symbol, prices in walks().items()])
    await store(ready, history)
    last = START_MS + (MINUTES - 1) * MINUTE_MS
    async with running_sidecar(ready) as client:
        assert client.sidecar.parts.trials.process_id is None
        # C has most turnover, that of A is unknown
        rows = [("BUSDT", last, {"quote_volume_1d": 10.0}), ("CUSDT", last, {"quote_volume_1d": 20.0})]
        await publish_metrics(ready, rows)
        await eventually(lambda: len(client.sidecar.parts.latest) == 2)
        await started(client)
        for hours, wanted in ((24, {}), (3, {"cooldown_s": 0}), (6, {"cooldown_s": 1800, "hold_s": 60})):
            since_ms = START_MS + (MINUTES - hours * 60) * MINUTE_MS
            trial = Trial(Rule("x", RULE, "info", mode="close", **wanted), since_ms)
            trial.add(history)
            given = {name: str(value) for name, value in wanted.items()}
            status, body = await client.get("/api/backtest", expression=RULE, hours=str(hours), **given)
            assert (status, body["faults"]) == (200, [])
            result = body["result"]
            assert result.pop("took_ms") >= 0
            assert result == {
                **trial.as_dict(),
                "since": rfc3339(since_ms),
                "until": rfc3339(START_MS + MINUTES * MINUTE_MS),
                "tried": 3,
                "of": 3,
                "complete": True,
            }
            assert result["fired"] > 0
        _, chosen = await client.get("/api/backtest", expression=RULE, symbol="BUSDT,NONEUSDT")
        assert (chosen["result"]["of"], chosen["result"]["symbols"]) == (1, 1)
        # with no time left a trial ends after its first group, and this long back a group is one symbol
        monkeypatch.setattr("app.sidecar.rest.backtest.BUDGET_MS", 0)
        monkeypatch.setattr("app.sidecar.rest.backtest.MOST_HOURS", 10**6)
        _, partly = await client.get("/api/backtest", expression=RULE, hours="2000")
        result = partly["result"]
        assert (result["tried"], result["of"], result["complete"]) == (1, 3, False)
        assert {row["symbol"] for row in result["by_symbol"]} == {"CUSDT"}
        found = await asyncio.gather(*(client.get("/api/backtest", expression=RULE) for _ in range(12)))
        assert {status for status, _ in found} == {200, 503}
        assert {body["error"] for status, body in found if status == 503} == {"busy"}


async def test_a_process_that_dies_costs_one_answer_and_none_outlives_the_sidecar(ready):
    await store(ready, candles([100.0] * 60))
    async with running_sidecar(ready) as client:
        await started(client)
        first = client.sidecar.parts.trials.process_id
        assert first is not None
        child = psutil.Process(first)
        child.suspend()
        asked = asyncio.create_task(client.get("/api/backtest", expression=RULE))
        await eventually(lambda: client.sidecar.parts.trials.waiting == 1)
        child.kill()
        status, body = await asked
        assert (status, body["error"]) == (500, "trial_failed")
        await started(client)
        second = client.sidecar.parts.trials.process_id
        assert second not in (None, first)
    assert not psutil.pid_exists(first)
    assert not psutil.pid_exists(second)


async def test_an_expression_that_does_not_compile_is_answered_with_its_faults_and_tries_nothing(settings):
    async with running_sidecar(settings, wait_ready=False) as client:
        status, body = await client.get("/api/backtest", expression="rsy_14_5m > 70 and foo > 1")
        assert (status, body["result"]) == (200, None)
        assert [fault["position"] for fault in body["faults"]] == [0, 19]
        assert body["faults"][0]["suggestions"][0] == "rsi_14_5m"
        _, checked = await client.get("/api/check", expression="rsy_14_5m > 70 and foo > 1")
        assert checked == {"faults": body["faults"]}
        _, checked = await client.get("/api/check", expression="rank(price) < 10", kind="screen")
        assert checked == {"faults": []}
        bad: list[dict[str, Any]] = [
            {},
            {"expression": RULE, "hours": "0"},
            {"expression": RULE, "hours": "169"},
            {"expression": RULE, "cooldown_s": "-1"},
            {"expression": RULE, "symbol": "a b"},
            {"expression": RULE, "mode": "live"},
            # an invalid parameter counts beside an expression that does not compile, too
            {"expression": "rsy_14_5m > 70", "hold_s": "-1"},
            {"expression": "rsy_14_5m > 70", "cooldown_s": "-1"},
        ]
        for parameters in bad:
            assert (await client.get("/api/backtest", **parameters))[0] == 400, parameters
        # there are no tables
        status, body = await client.get("/api/backtest", expression=RULE)
        assert (status, body["error"]) == (503, "unavailable")
        assert client.sidecar.parts.trials.process_id is None
