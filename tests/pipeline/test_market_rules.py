"""Rules that look at all symbols, through the whole pipeline: for any number of partitions and processes, and after any
kill, the alerts are those of a brute force over the same candles, under the same ids."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from app.candles.batch import CandleBatch
from app.process.children.child import ChildProcess
from app.process.children.supervisor import role_argv, role_environ
from app.replay.replay import ReplayResult
from app.rules.alert import Alert as FiredAlert
from app.rules.alert import alert_id
from app.rules.rule import Rule
from app.settings import Settings
from app.wire.nats.stream import DURABLE, connect, stream_name
from tests.oracle.market import RULES, Alert, market_alerts
from tests.support.eventually import eventually
from tests.support.replays import Disturbed, market_slice, redeliver_after, replay_settings, stored_candles

pytestmark = pytest.mark.slow

MARKET_RULES = tuple(Rule(name, expression, "high") for name, expression in RULES.items())
ROLES = ("bridge", "all", "market", "sinks")
HOUR_MS = 3_600_000
SEPARATE_ROLES = ("bridge", "collector", "calculator", "alerts", "market", "sinks")


def columns_of(candles: CandleBatch) -> dict[str, np.ndarray]:
    return {
        "symbol": np.array(candles.symbols)[candles.symbol_index],
        "open_time_ms": candles.open_time_ms,
        "close": candles.close,
        "quote_volume": candles.quote_volume,
    }


@pytest.fixture(scope="module")
def candles() -> CandleBatch:
    return market_slice()


@pytest.fixture(scope="module")
def expected(candles: CandleBatch) -> set[Alert]:
    alerts = market_alerts(columns_of(candles))
    assert {rule_type for rule_type, _, _ in alerts} == RULES.keys()
    return alerts


def keyed(alerts: Sequence[FiredAlert]) -> dict[str, Alert]:
    return {alert.id: (alert.rule_type, alert.symbol, int(alert.minute_ms or 0)) for alert in alerts}


def check(outcome: ReplayResult, expected: set[Alert]) -> None:
    found = keyed(outcome.alerts)
    assert set(found.values()) == expected
    assert found == {
        alert_id(name, 1, symbol, at_ms): (name, symbol, at_ms) for name, symbol, at_ms in expected
    }


async def _stored(settings: Settings, wanted: float) -> bool:
    return await stored_candles(settings) >= wanted


async def undisturbed() -> None:
    """Nothing happens to the replay."""


@pytest.mark.parametrize("partitions", [1, 8])
async def test_alerts_are_those_of_a_brute_force_for_any_number_of_partitions(
    partitions: int, settings: Settings, candles: CandleBatch, expected: set[Alert], tmp_path: Path
) -> None:
    settings = replay_settings(settings, partitions=partitions)
    outcome = await Disturbed(settings, candles, tmp_path, seconds=1.0, roles=ROLES, rules=MARKET_RULES).run(
        undisturbed, within_s=280.0
    )
    check(outcome, expected)


async def test_killing_each_process_changes_no_alert(
    settings: Settings, candles: CandleBatch, expected: set[Alert], tmp_path: Path
) -> None:
    settings = replay_settings(settings, partitions=3)
    disturbed = Disturbed(settings, candles, tmp_path, seconds=12.0, roles=SEPARATE_ROLES, rules=MARKET_RULES)
    roles = ("market", "calculator", "collector", "market", "alerts", "sinks")

    async def fault() -> None:
        for number, role in enumerate(roles, 1):
            await until_stored(settings, candles, number / (len(roles) + 2))
            pid = disturbed.kill(role)
            await disturbed.until_replaced(role, pid)

    outcome = await disturbed.run(fault, within_s=280.0)
    assert outcome.restarts == len(roles)
    check(outcome, expected)


async def test_three_workers_and_a_standby_that_takes_over_change_no_alert(
    settings: Settings, candles: CandleBatch, expected: set[Alert], tmp_path: Path
) -> None:
    settings = replay_settings(settings, partitions=3)
    disturbed = Disturbed(settings, candles, tmp_path, seconds=12.0, roles=ROLES, rules=MARKET_RULES)
    more = [another(role, number, settings, tmp_path) for number, role in enumerate(("all", "all", "market"))]

    async def fault() -> None:
        await until_stored(settings, candles, 0.1)
        for process in more:
            process.start()
        await eventually(lambda: has_partitions(more[2]), within_s=90, of_work=True)
        await until_stored(settings, candles, 0.4)
        for role in ("market", "all"):
            pid = disturbed.kill(role)
            await disturbed.until_replaced(role, pid)

    try:
        outcome = await disturbed.run(fault, within_s=280.0)
        assert all(process.running for process in more), more[0].log_tail()
        # the process that has run longest reads, so after the kill it was the standby
        assert "market_taken_over" in log_of(more[2])
    finally:
        for process in more:
            process.stop()
    check(outcome, expected)


async def test_a_killed_bridge_changes_no_alert_though_its_candles_come_again_late(
    settings: Settings, candles: CandleBatch, tmp_path: Path
) -> None:
    """NATS delivers again, seconds later, what a bridge had not acknowledged: half an hour of this market, in which
    candles of all symbols go on."""
    crash = candles.take(candles.open_time_ms >= int(candles.open_time_ms[-1]) - 5 * HOUR_MS).compact()
    expected = market_alerts(columns_of(crash))
    settings = replay_settings(settings, partitions=3)
    await redeliver_after(settings, 3.0)
    disturbed = Disturbed(settings, crash, tmp_path, seconds=40.0, roles=ROLES, rules=MARKET_RULES)

    async def fault() -> None:
        for kills, share in enumerate((0.2, 0.5)):
            await eventually(partial(has_published, disturbed, share * len(crash)), 240, pause_max_s=0.02)
            await eventually(partial(has_begun, disturbed, kills), 60, of_work=True)
            pid = disturbed.pid("bridge")
            await eventually(partial(stopped_with_messages, pid, settings), within_s=60)
            disturbed.kill("bridge")
            await disturbed.until_replaced("bridge", pid)

    outcome = await disturbed.run(fault, within_s=280.0)
    assert outcome.restarts == 2
    assert len(expected) > 100
    check(outcome, expected)


def has_published(disturbed: Disturbed, count: float) -> bool:
    return disturbed.published >= count


def has_begun(disturbed: Disturbed, kills: int) -> bool:
    """Whether the bridge that was started after so many kills takes messages."""
    return disturbed.log("bridge").count("bridge_started") > kills


async def stopped_with_messages(pid: int, settings: Settings) -> bool:
    """Stop a bridge and return whether messages came to it since; if none did, for its request for them was about to
    end, it continues."""
    os.kill(pid, signal.SIGSTOP)
    try:
        return await eventually(partial(holds_messages, settings), within_s=3)
    except AssertionError:
        os.kill(pid, signal.SIGCONT)
        return False


async def holds_messages(settings: Settings) -> bool:
    """Whether some minutes were delivered to the bridges and not acknowledged."""
    client = await connect(settings.nats().url, "test")
    try:
        consumer = await client.jetstream().consumer_info(stream_name(settings.names()), DURABLE)
    finally:
        await client.close()
    return (consumer.num_ack_pending or 0) >= 6


def another(role: str, number: int, settings: Settings, directory: Path) -> ChildProcess:
    """One more process of a role, as on another machine."""
    environ = role_environ(settings.model_copy(update={"data_dir": directory / f"machine{number}"}))
    return ChildProcess(role, role_argv(role), directory / f"{role}-{number}.log", env=environ)


def log_of(process: ChildProcess) -> str:
    return process.log_file.read_text(errors="replace")


def has_partitions(process: ChildProcess) -> bool:
    return "partitions_assigned" in log_of(process)


async def until_stored(settings: Settings, candles: CandleBatch, share: float) -> None:
    await eventually(partial(_stored, settings, share * len(candles)), within_s=240, pause_max_s=0.02)
