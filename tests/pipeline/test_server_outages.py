"""A server dies in the middle of a replay and comes back with its data: nothing is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.candles.batch import CandleBatch
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import LOOPBACK, free_port
from app.process.health.probes import PROBES
from app.settings import Settings
from tests.oracle.alerts import Alert
from tests.support.apache_kafka import ApacheKafka
from tests.support.eventually import eventually
from tests.support.replays import (
    Disturbed,
    alert_keys,
    redeliver_after,
    replay_settings,
    stored,
)
from tests.support.servers import settings_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """Servers that may be killed; each test leaves them running."""
    with EmbeddedStack.start(tmp_path_factory.mktemp("own-stack")) as running:
        yield running


@pytest.fixture
def settings(own_stack: EmbeddedStack) -> Settings:
    return replay_settings(settings_for(own_stack.urls), alerts_port=free_port())


async def check_complete(
    disturbed: Disturbed, fault: Callable[[], Awaitable[None]], candles: CandleBatch, expected: set[Alert]
) -> None:
    """The topic has every alert, the database each once, and all candles."""
    outcome = await disturbed.run(fault)
    assert set(alert_keys(outcome.alerts)) == expected
    in_database = await stored(disturbed.settings)
    assert Counter(in_database.alert_keys) == Counter(expected)
    assert in_database.candles == len(candles)


async def start_again(stack: EmbeddedStack, server: str) -> None:
    """On the same port and data; returns when it answers."""
    stack.processes[server].start()

    async def answers() -> bool:
        try:
            await PROBES[server](stack.urls[server])
        except Exception:
            return False
        return True

    await eventually(answers, within_s=60)


async def metric(port: int, name: str) -> float:
    """The sum of a counter's samples on a role's /metrics."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{LOOPBACK}:{port}/metrics") as response,
    ):
        families = list(text_string_to_metric_families(await response.text()))
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


async def test_without_redis_cooldowns_come_from_memory_and_no_alert_is_missed(
    own_stack: EmbeddedStack, settings: Settings, candles: CandleBatch, expected: set[Alert], tmp_path: Path
) -> None:
    disturbed = Disturbed(settings, candles, tmp_path)

    async def cut_redis() -> None:
        await disturbed.until_stored(0.3)
        own_stack.processes["redis"].kill()
        try:
            await disturbed.until_stored(0.7)
            assert await metric(settings.alerts_port, "screener_cooldown_fallbacks_total") > 0
        finally:
            await start_again(own_stack, "redis")

    await check_complete(disturbed, cut_redis, candles, expected)


async def test_a_restart_of_nats_loses_no_candle(
    own_stack: EmbeddedStack, settings: Settings, candles: CandleBatch, tmp_path: Path
) -> None:
    """What was on its way is sent and delivered again, late, so that alerts may differ; but all of it arrives."""
    await redeliver_after(settings, 5.0)
    disturbed = Disturbed(settings, candles, tmp_path)

    async def restart_nats() -> None:
        await disturbed.until_stored(0.4)
        own_stack.processes["nats"].kill()
        await start_again(own_stack, "nats")

    outcome = await disturbed.run(restart_nats)
    in_database = await stored(settings)
    assert in_database.candles == len(candles)
    assert Counter(in_database.alert_keys) == Counter(set(alert_keys(outcome.alerts)))


async def test_what_arrives_while_postgres_is_away_is_stored_when_it_is_back(
    own_stack: EmbeddedStack, settings: Settings, candles: CandleBatch, expected: set[Alert], tmp_path: Path
) -> None:
    disturbed = Disturbed(settings, candles, tmp_path)

    async def cut_postgres() -> None:
        await disturbed.until_stored(0.4)
        own_stack.processes["postgres"].kill()
        try:
            await eventually(lambda: "sink_waits" in disturbed.log("sinks"))
        finally:
            await start_again(own_stack, "postgres")

    await check_complete(disturbed, cut_postgres, candles, expected)


@pytest.mark.kafka
async def test_apache_kafka_stopped_and_killed_loses_nothing(
    apache_kafka: ApacheKafka,
    apache_kafka_settings: Settings,
    candles: CandleBatch,
    expected: set[Alert],
    tmp_path: Path,
) -> None:
    disturbed = Disturbed(replay_settings(apache_kafka_settings), candles, tmp_path)

    async def restart_kafka() -> None:
        for share, end in ((0.3, apache_kafka.stop), (0.6, apache_kafka.kill)):
            await disturbed.until_stored(share)
            try:
                await asyncio.to_thread(end)
            finally:
                await asyncio.to_thread(apache_kafka.start)

    await check_complete(disturbed, restart_kafka, candles, expected)
