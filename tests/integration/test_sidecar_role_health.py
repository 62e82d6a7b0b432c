"""The health of each role as the sidecar tells it: stale, silent, stuck, behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer

from app.clock import SystemClock
from app.process.health import signs
from app.process.health.backlog import OWN_WORK, Waiting
from app.process.health.signs import SignsOfLife
from app.settings import Settings
from app.wire.kafka import client_options
from app.wire.nats.pull import CandlePull
from app.wire.nats.stream import connect, ensure_consumer, ensure_stream
from app.wire.redis import connect_redis
from app.wire.topics import Topics
from tests.support.alerts import make_alert, publish
from tests.support.eventually import eventually
from tests.support.metric_batches import metrics_batch, publish_frame, publish_metrics
from tests.support.sidecar import Client, prepare, running_sidecar
from tests.support.sidecar_health import IMPATIENT, NEEDED_ROLES, health, signs_of_life, states

MINUTE_MS = 1_709_000_040_000


async def test_a_process_that_gives_no_sign_any_more_is_stale_and_health_not_ok(settings, monkeypatch):
    monkeypatch.setattr(signs, "STALE_S", 0.5)
    monkeypatch.setattr(signs, "_TELL_S", 0.1)
    await prepare(settings)
    async with running_sidecar(settings, IMPATIENT) as client, signs_of_life(settings, "bridge"):
        stopped = SignsOfLife(settings.redis(), ("alerts", "webhooks"), SystemClock())
        redis = connect_redis(settings.server_urls().redis)
        await stopped._tell(redis, True)
        await redis.aclose()

        async def found(state: str) -> bool:
            found = await states(client)
            return found["alerts"] == found["webhooks"] == state

        await eventually(lambda: found("fresh"))
        await eventually(lambda: found("stale"))
        assert (await health(client))[1] == "degraded"


@pytest.mark.parametrize(("closed", "state"), [(False, "stale"), (True, "fresh")])
async def test_data_88_s_old_are_stale_while_the_exchange_ticks_and_fresh_where_only_closed_candles_come(
    settings, closed, state
):
    await prepare(settings)
    now_ms = SystemClock().now_ms()
    async with running_sidecar(settings, IMPATIENT) as client, signs_of_life(settings, "calculator"):
        for age_s in (90, 89, 88):
            frame = replace(metrics_batch([("BTCUSDT", MINUTE_MS, {})]), closed=np.array([closed]))
            await publish_frame(settings, frame, {"calculator": now_ms - age_s * 1000})

        async def told() -> bool:
            return (await states(client))["calculator"] == state

        await eventually(told)
        assert len(client.sidecar.parts.latest)


async def test_a_stage_that_fell_silent_is_reported(settings):
    await prepare(settings)
    limits = replace(IMPATIENT, stale_after_s=10.0)
    now_ms = SystemClock().now_ms()
    async with running_sidecar(settings, limits) as client, signs_of_life(settings, *NEEDED_ROLES):
        stages = {"bridge": now_ms, "collector": now_ms - 60_000}
        await publish_metrics(settings, [("BTCUSDT", MINUTE_MS, {})], stages)
        await eventually(lambda: len(client.sidecar.parts.latest))

        async def told() -> bool:
            found = await states(client)
            return [found[name] for name in ("bridge", "collector", "calculator")] == [
                "fresh",
                "stale",
                "silent",
            ]

        await eventually(told)
        assert (await health(client))[:2] == (200, "degraded")


QUICK_TO_SAY = replace(IMPATIENT, backlog_every_s=0.1, still_after_s=1.0)


async def waits_at(client: Client, role: str, state: str) -> bool:
    stage = (await client.get("/api/health"))[1]["stages"][role]
    return bool(stage["state"] == state)


@asynccontextmanager
async def reading(settings: Settings, group: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A member of a consumer group of ours."""
    consumer = AIOKafkaConsumer(
        topic, **client_options(settings.kafka()), group_id=settings.name(group), auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


@pytest.mark.parametrize("group", ["alerts", "all"])
async def test_a_role_that_lives_and_no_longer_reads_is_stuck_until_it_does(settings, group):
    await prepare(settings)
    async with running_sidecar(settings, QUICK_TO_SAY) as client, signs_of_life(settings, *NEEDED_ROLES):
        await publish_metrics(settings, [("BTCUSDT", MINUTE_MS, {}), ("ETHUSDT", MINUTE_MS, {})])
        await eventually(lambda: waits_at(client, "alerts", "stuck"))
        status, report = await client.get("/api/health")
        assert (status, report["status"]) == (200, "degraded")
        work = report["stages"]["alerts"]["work"]["alerts"]
        assert (work["waiting"], work["handled"]) == (2, None)
        assert work["waiting_s"] > 1.0
        async with client.session.get("/metrics") as page:
            assert 'screener_role_still_seconds{role="alerts"}' in await page.text()
        async with reading(settings, group, Topics.of(settings.names()).metrics) as consumer:
            for _ in range(2):
                await consumer.getone()
            await consumer.commit()
            await eventually(lambda: waits_at(client, "alerts", "fresh"))
        stage = (await client.get("/api/health"))[1]["stages"]["alerts"]
        assert (stage["work"]["alerts"]["waiting"], stage["work"]["alerts"]["waiting_s"]) == (0, None)
        assert stage["work"]["alerts"]["handled"] is not None


async def test_each_sink_is_looked_at_by_itself(settings):
    await prepare(settings)
    async with running_sidecar(settings, QUICK_TO_SAY) as client, signs_of_life(settings, *NEEDED_ROLES):
        await publish(settings, [make_alert(0)])
        await eventually(lambda: waits_at(client, "sinks", "stuck"))
        work = (await client.get("/api/health"))[1]["stages"]["sinks"]["work"]
        assert {name: one["waiting"] for name, one in work.items()} == {
            "sinks-candles": 0,
            "sinks-metrics": 0,
            "sinks-alerts": 1,
        }


async def test_a_bridge_that_lives_and_takes_nothing_is_stuck(settings):
    await prepare(settings)
    nats = await connect(settings.server_urls().nats, "test")
    try:
        await ensure_stream(nats, settings.names())
        await ensure_consumer(nats, settings.names())
        async with running_sidecar(settings, QUICK_TO_SAY) as client, signs_of_life(settings, *NEEDED_ROLES):
            await nats.jetstream().publish(settings.name("candles.1m.BTCUSDT"), b"{}")
            await eventually(lambda: waits_at(client, "bridge", "stuck"))
            pull = CandlePull(nats, settings.names(), capacity=100, frame_max_delay_ms=100)
            await pull.open()
            await pull.acknowledge(await pull.batch(10, 10_000, 5.0))
            # it lives, takes what comes, and has sent nothing yet
            await eventually(lambda: waits_at(client, "bridge", "silent"))
    finally:
        await nats.close()


async def test_a_role_that_says_itself_that_its_work_stands_still_is_stuck(settings):
    await prepare(settings)
    began_ms = SystemClock().now_ms()
    with OWN_WORK.shown("outbox", lambda: Waiting(3, began_ms, began_ms, None)):
        async with running_sidecar(settings, QUICK_TO_SAY) as client, signs_of_life(settings, "webhooks"):
            await eventually(lambda: waits_at(client, "webhooks", "stuck"))
            work = (await client.get("/api/health"))[1]["stages"]["webhooks"]["work"]
            assert work["outbox"]["waiting"] == 3


async def test_a_role_that_goes_on_while_its_oldest_work_waits_too_long_is_behind(settings):
    await prepare(settings)
    # a quarter of a second of waiting is behind; nothing is ever called stuck
    limits = replace(QUICK_TO_SAY, still_after_s=3_600.0, behind_after_s=0.25)
    topic = Topics.of(settings.names()).alerts
    async with running_sidecar(settings, limits) as client, signs_of_life(settings, *NEEDED_ROLES):
        await publish(settings, [make_alert(n) for n in range(3)])
        await eventually(lambda: waits_at(client, "sinks", "behind"))
        assert (await client.get("/api/health"))[1]["status"] == "degraded"
        async with reading(settings, "sinks-alerts", topic) as consumer:
            await consumer.getone()
            await consumer.commit()

            async def one_handled() -> bool:
                stage = (await client.get("/api/health"))[1]["stages"]["sinks"]
                assert stage["state"] == "behind"
                return bool(stage["work"]["sinks-alerts"]["waiting"] == 2)

            await eventually(one_handled)
            for _ in range(2):
                await consumer.getone()
            await consumer.commit()
            await eventually(lambda: waits_at(client, "sinks", "fresh"))


async def test_a_webhook_sender_whose_targets_fail_is_not_behind(settings):
    """Messages to a target that fails are due for long, whatever the sender does."""
    await prepare(settings)
    now_ms = SystemClock().now_ms()
    limits = replace(QUICK_TO_SAY, behind_after_s=0.25)
    with OWN_WORK.shown("outbox", lambda: Waiting(3, now_ms - 3_600_000, now_ms + 60_000, now_ms)):
        async with running_sidecar(settings, limits) as client, signs_of_life(settings, "webhooks"):
            await eventually(lambda: waits_at(client, "webhooks", "fresh"))
            assert (await client.get("/api/health"))[1]["stages"]["webhooks"]["work"]["outbox"][
                "waiting"
            ] == 3


async def test_a_feed_of_which_nats_took_nothing_lately_is_stale(settings):
    await prepare(settings)
    limits = replace(QUICK_TO_SAY, stale_after_s=1.0)
    handled = [SystemClock().now_ms() - 5_000]
    with OWN_WORK.shown("nats", lambda: Waiting(handled_ms=handled[0])):
        async with running_sidecar(settings, limits) as client, signs_of_life(settings, "feed"):
            await eventually(lambda: waits_at(client, "feed", "stale"))
            assert (await client.get("/api/health"))[1]["stages"]["feed"]["age_s"] >= 5.0
            handled[0] = SystemClock().now_ms() + 60_000
            await eventually(lambda: waits_at(client, "feed", "fresh"))
