"""A process of the pipeline is killed in the middle of a replay: the alerts are those of an undisturbed one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.candles.batch import CandleBatch
from app.replay.replay import ReplayResult
from app.settings import Settings
from tests.oracle.alerts import Alert
from tests.support.replays import (
    Disturbed,
    alert_keys,
    redeliver_after,
    replay_settings,
    stored,
)

pytestmark = pytest.mark.slow

SEPARATE_ROLES = ("bridge", "collector", "calculator", "alerts", "sinks")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replay_settings(settings)


@pytest.fixture
def apache_kafka_settings(apache_kafka_settings: Settings) -> Settings:
    return replay_settings(apache_kafka_settings)


async def kill_in_turn(disturbed: Disturbed, roles: Sequence[str]) -> ReplayResult:
    """Kills each role when the next share of the candles is stored; each must have been replaced by then."""

    async def fault() -> None:
        for number, role in enumerate(roles, 1):
            await disturbed.until_stored(number / (len(roles) + 1))
            pid = disturbed.kill(role)
            await disturbed.until_replaced(role, pid)

    return await disturbed.run(fault)


async def check(
    settings: Settings, outcome: ReplayResult, candles: CandleBatch, expected: set[Alert]
) -> None:
    """Nothing lost on the topic or in the database, nothing twice in the database."""
    assert set(alert_keys(outcome.alerts)) == expected
    in_database = await stored(settings)
    assert Counter(in_database.alert_keys) == Counter(expected)
    assert in_database.candles == len(candles)
    assert in_database.ids == {alert.id for alert in outcome.alerts}


@pytest.mark.kafka
async def test_killing_the_worker_and_the_sinks_loses_no_alert_and_stores_none_twice(
    apache_kafka_settings: Settings, candles: CandleBatch, expected: set[Alert], tmp_path: Path
) -> None:
    outcome = await kill_in_turn(Disturbed(apache_kafka_settings, candles, tmp_path), ["all", "sinks"])
    assert outcome.restarts == 2
    await check(apache_kafka_settings, outcome, candles, expected)


@pytest.mark.kafka
async def test_killing_each_stage_in_a_process_of_its_own_loses_no_alert_and_stores_none_twice(
    apache_kafka_settings: Settings, candles: CandleBatch, expected: set[Alert], tmp_path: Path
) -> None:
    disturbed = Disturbed(apache_kafka_settings, candles, tmp_path, seconds=10.0, roles=SEPARATE_ROLES)
    outcome = await kill_in_turn(disturbed, ["collector", "calculator", "alerts"])
    assert outcome.restarts == 3
    await check(apache_kafka_settings, outcome, candles, expected)


async def test_killing_the_worker_before_its_first_commit_and_later_loses_no_alert_on_the_embedded_broker(
    settings: Settings, candles: CandleBatch, expected: set[Alert], tmp_path: Path
) -> None:
    disturbed = Disturbed(settings, candles, tmp_path)

    async def fault() -> None:
        for share in (0.01, 0.5):
            await disturbed.until_stored(share)
            pid = disturbed.kill("all")
            await disturbed.until_replaced("all", pid)

    outcome = await disturbed.run(fault)
    assert outcome.restarts == 2
    await check(settings, outcome, candles, expected)


async def test_killing_the_bridge_loses_no_candle(
    settings: Settings, candles: CandleBatch, tmp_path: Path
) -> None:
    """What it had not acknowledged comes late, so that alerts may differ; but all of it comes."""
    await redeliver_after(settings, 5.0)
    outcome = await kill_in_turn(Disturbed(settings, candles, tmp_path), ["bridge"])
    assert outcome.restarts == 1
    in_database = await stored(settings)
    assert in_database.candles == len(candles)
    assert Counter(in_database.alert_keys) == Counter(set(alert_keys(outcome.alerts)))
