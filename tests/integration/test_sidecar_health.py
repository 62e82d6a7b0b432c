"""Health, readiness and Prometheus of the sidecar, with servers that come and go."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer
from prometheus_client.parser import text_string_to_metric_families

import app.sidecar.state.server_checks as server_checks
from app.clock import SystemClock
from app.errors import PortTaken, ScreenerError, SettingsError
from app.local.servers.embedded import EmbeddedStack
from app.process.health import signs
from app.process.health.backlog import OWN_WORK, Waiting
from app.process.health.signs import SignsOfLife
from app.settings import Settings
from app.sidecar.run import run_sidecar, serve_sidecar
from app.sidecar.state.limits import SidecarLimits
from app.sidecar.state.server_checks import ask_nats
from app.telemetry.catalogue import RoleRegistry
from app.wire.kafka import client_options
from app.wire.nats.pull import CandlePull
from app.wire.nats.stream import connect, ensure_consumer, ensure_stream
from app.wire.redis import connect_redis
from app.wire.topics import Topics
from tests.support.alerts import make_alert, publish
from tests.support.eventually import eventually
from tests.support.metric_batches import metrics_batch, publish_frame, publish_metrics
from tests.support.servers import settings_for
from tests.support.sidecar import FREE_PORTS, Client, prepare, read_alerts, running_sidecar

IMPATIENT = SidecarLimits(dependency_check_s=0.1, dependency_timeout_s=1.0, settle_s=1.0)
MINUTE_MS = 1_709_000_040_000


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[EmbeddedStack]:
    """Servers of this test alone: it may stop them."""
    with EmbeddedStack.start(tmp_path) as stack:
        yield stack


async def health(client: Client) -> tuple[int, str, dict[str, str]]:
    status, body = await client.get("/api/health")
    return status, body["status"], {name: one["state"] for name, one in body["dependencies"].items()}


ALL_UP = {"kafka": "up", "nats": "up", "postgres": "up", "redis": "up"}


@asynccontextmanager
async def signs_of_life(settings: Settings, *roles: str) -> AsyncIterator[None]:
    """As the processes of these roles give them."""
    giving = asyncio.create_task(SignsOfLife(settings.redis(), roles, SystemClock()).run(lambda: True))
    try:
        yield
    finally:
        giving.cancel()
        await asyncio.wait([giving])


NEEDED_ROLES = ("bridge", "collector", "calculator", "alerts", "sinks")


async def states(client: Client) -> dict[str, str]:
    _, body = await client.get("/api/health")
    return {name: stage["state"] for name, stage in body["stages"].items()}


async def test_with_all_servers_up_and_all_stages_at_work_health_is_ok(settings):
    await prepare(settings)
    now_ms = SystemClock().now_ms()
    async with running_sidecar(settings, IMPATIENT) as client, signs_of_life(settings, *NEEDED_ROLES):
        assert (await client.get("/health/ready"))[0] == 200

        async def is_degraded() -> bool:
            return await health(client) == (200, "degraded", ALL_UP)

        await eventually(is_degraded)
        stages = {"bridge": now_ms, "collector": now_ms, "calculator": now_ms}
        await publish_metrics(settings, [("BTCUSDT", MINUTE_MS, {})], stages)
        await eventually(lambda: len(client.sidecar.parts.latest))

        async def is_ok() -> bool:
            return await health(client) == (200, "ok", ALL_UP)

        await eventually(is_ok)
        assert await states(client) == dict.fromkeys(NEEDED_ROLES, "fresh") | {
            "feed": "absent",
            "market": "absent",
            "webhooks": "absent",
        }


async def test_health_says_how_the_database_stores_minutes(settings):
    await prepare(settings)
    async with running_sidecar(settings, IMPATIENT) as client:

        async def mode() -> object:
            return (await client.get("/api/health"))[1]["dependencies"]["postgres"]["timescaledb"]

        async def is_known() -> bool:
            return await mode() != "unknown"

        await eventually(is_known)
        assert await mode() == "absent"  # tests run on plain PostgreSQL
        client.sidecar.parts.health.timescale = lambda: "uncompressed"
        assert await mode() == "uncompressed"


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


async def test_losing_the_database_is_503_and_seen_by_clients_that_need_it_only(own_stack):
    settings = settings_for(own_stack.urls)
    await prepare(settings)
    await publish_metrics(settings, [("BTCUSDT", MINUTE_MS, {"close_1m": 1.0})])
    limits = replace(IMPATIENT, remembered_alerts=10, repeat_distance=5)
    async with running_sidecar(settings, limits) as client, client.alerts() as socket:
        await asyncio.to_thread(own_stack.processes["postgres"].stop, 10.0)
        await eventually(lambda: not client.sidecar.parts.health.ready)
        assert (await client.get("/health/ready"))[0] == 503
        assert await health(client) == (503, "down", {**ALL_UP, "postgres": "down"})
        assert (await client.get("/health/live"))[0] == 200
        assert (await client.get("/api/alerts"))[0] == 503
        assert (await client.get("/api/metrics/BTCUSDT"))[0] == 200
        await publish(settings, [make_alert(n) for n in range(30)])
        assert len(await read_alerts(socket, lambda found: len(found) == 30)) == 30
        async with client.alerts(since=-1) as resuming:
            message = await resuming.receive()
            assert (message.data, "same since" in message.extra) == (1013, True)


@pytest.mark.parametrize(("server", "status", "word"), [("redis", 200, "degraded"), ("nats", 503, "down")])
async def test_losing_another_server_is_reported_by_how_much_it_matters(own_stack, server, status, word):
    settings = settings_for(own_stack.urls)
    await prepare(settings)
    async with running_sidecar(settings, IMPATIENT) as client:
        await eventually(lambda: client.sidecar.parts.health.report()[1])
        await asyncio.to_thread(own_stack.processes[server].stop, 10.0)

        async def reported() -> bool:
            return await health(client) == (status, word, {**ALL_UP, server: "down"})

        await eventually(reported)
        assert (await client.get("/health/ready"))[0] == 200


async def test_a_nats_that_answers_and_stores_nothing_is_down(own_stack, monkeypatch):
    monkeypatch.setattr(server_checks, "_STORED_EVERY_S", 0.1)
    settings = settings_for(own_stack.urls)
    await prepare(settings)
    client = await connect(settings.nats().url, "test")
    await ensure_stream(client, settings.names())
    await client.close()
    pid = own_stack.processes["nats"].pid
    whole = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    async with running_sidecar(settings, IMPATIENT) as client:
        await eventually(lambda: client.sidecar.parts.health.report()[1])
        # as a full disk does: files may not grow, whoever we are
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, whole[1]))

        async def reported() -> bool:
            return await health(client) == (503, "down", {**ALL_UP, "nats": "down"})

        await eventually(reported)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, whole)


async def test_losing_the_broker_is_503(own_stack):
    settings = settings_for(own_stack.urls)
    await prepare(settings)
    async with running_sidecar(settings, IMPATIENT) as client:
        await asyncio.to_thread(own_stack.processes["kafka"].stop, 10.0)

        async def reported() -> bool:
            return await health(client) == (503, "down", {**ALL_UP, "kafka": "down"})

        await eventually(reported, within_s=30)
        assert (await client.get("/health/ready"))[0] == 503


async def test_a_sidecar_started_before_topics_and_tables_begins_when_they_are_there(settings):
    async with running_sidecar(settings, IMPATIENT, wait_ready=False) as client:
        assert (await client.get("/health/ready"))[0] == 503
        await prepare(settings)
        await eventually(lambda: client.sidecar.parts.health.ready)
        async with client.alerts() as socket:
            await publish(settings, [make_alert(0)])
            assert len(await read_alerts(socket, lambda found: len(found) == 1)) == 1


async def test_a_taken_port_is_reported_with_its_setting(settings):
    taken = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    try:
        for setting in ("sidecar_port", "sidecar_metrics_port"):
            unlucky = settings.model_copy(update={**FREE_PORTS, setting: port})
            with pytest.raises(PortTaken, match=f"SCREENER_{setting.upper()}"):
                async with serve_sidecar(unlucky, SystemClock(), RoleRegistry("sidecar")):
                    pass
    finally:
        taken.close()
        await taken.wait_closed()


async def test_missing_urls_are_refused_by_name():
    with pytest.raises(SettingsError, match=r"SCREENER_NATS_URL.*SCREENER_POSTGRES_URL"):
        await run_sidecar(Settings.load({}), SystemClock(), RoleRegistry("sidecar"), asyncio.Event())


async def test_the_process_ends_in_good_order_when_told_to_stop(settings):
    stop = asyncio.Event()
    before = asyncio.all_tasks()
    running = asyncio.create_task(
        run_sidecar(settings.model_copy(update=FREE_PORTS), SystemClock(), RoleRegistry("sidecar"), stop)
    )
    await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(running, 20)
    assert asyncio.all_tasks() - before == set()


async def test_requests_are_counted_by_route_never_by_path_on_both_ports(settings):
    await prepare(settings)
    async with running_sidecar(settings) as client:
        for symbol in ("AUSDT", "BUSDT", "CUSDT"):
            await client.get(f"/api/metrics/{symbol}")
        await client.get("/nothing/here")
        pages = []
        for port in (client.sidecar.port, client.sidecar.metrics_port):
            async with client.session.get(f"http://127.0.0.1:{port}/metrics") as response:
                pages.append(await response.text())
    for page in pages:
        families = {family.name: family for family in text_string_to_metric_families(page)}
        counted = {
            (sample.labels["route"], sample.labels["status"]): sample.value
            for sample in families["api_gateway_http_requests"].samples
            if sample.name.endswith("_total")
        }
        assert counted[("/api/metrics/{symbol}", "404")] == 3.0
        assert counted[("none", "404")] == 1.0
        assert not any("AUSDT" in route or "nothing" in route for route, _ in counted)
        assert families["api_gateway_http_duration_seconds"].type == "histogram"


async def test_something_else_on_the_port_of_nats_is_not_taken_for_nats(own_stack):
    await ask_nats(own_stack.urls["nats"])
    await ask_nats(f"nats://127.0.0.1:1,{own_stack.urls['nats']}")
    address = own_stack.urls["redis"].rpartition("@")[2].rpartition("/")[0] or own_stack.urls["redis"]
    with pytest.raises((OSError, asyncio.IncompleteReadError, TimeoutError)):
        async with asyncio.timeout(0.5):
            await ask_nats(f"nats://{address.removeprefix('redis://')}")


async def test_a_part_that_ends_by_itself_ends_the_process(settings):
    async with running_sidecar(settings, wait_ready=False) as client:
        ended = asyncio.create_task(client.sidecar.run_until(asyncio.Event()))
        part = next(task for task in asyncio.all_tasks() if task.get_name() == "health")
        part.cancel()
        with pytest.raises(ScreenerError, match="'health' ended by itself"):
            await asyncio.wait_for(ended, 20)
