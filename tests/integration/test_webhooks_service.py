"""The role as it runs: from the topic of alerts to receivers, over deaths of its process and of the database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from psycopg import AsyncConnection
from standardwebhooks import Webhook

from app.clock import SystemClock
from app.database.connection import connection_url
from app.database.migrate import migrate
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import free_port
from app.process.children.child import ChildProcess
from app.process.children.supervisor import role_argv, role_environ
from app.process.health.backlog import OWN_WORK
from app.rules.alert import Alert
from app.settings import Settings
from app.telemetry.catalogue import RoleRegistry
from app.times import rfc3339
from app.webhooks.delivery.delivery_log import DeliveryLog
from app.webhooks.delivery.outbox import route
from app.webhooks.run import run_webhooks
from app.webhooks.targets.settings_targets import follow_settings
from app.webhooks.targets.store import NewTarget, Target, TargetStore
from app.wire.barrier import Barrier, BarrierReports
from app.wire.kafka import ensure_topics
from app.wire.redis import connect_redis
from app.wire.topics import Topics
from tests.support.alerts import make_alert, publish
from tests.support.eventually import eventually
from tests.support.servers import settings_for
from tests.support.topic_reader import read_until
from tests.support.webhooks import LOOPBACK, ON_LOOPBACK, Received, Receiver, receiving

SHORT: dict[str, Any] = LOOPBACK | {"webhook_timeout_s": 2.0, "webhooks_port": 0}
"""So that what a killed sender held is soon free again."""


def fresh_alerts(numbers: Iterable[int]) -> list[dict[str, Any]]:
    """Published now, about now."""
    now_ms = SystemClock().now_ms()
    fresh = {"timings": {"publish_ts_ms": now_ms}, "timestamp": rfc3339(now_ms)}
    return [make_alert(number) | fresh for number in numbers]


@asynccontextmanager
async def targets(settings: Settings) -> AsyncIterator[TargetStore]:
    await asyncio.to_thread(migrate, settings.postgres())
    await ensure_topics(settings.kafka())
    async with await AsyncConnection.connect(
        connection_url(settings.postgres()), autocommit=True
    ) as connection:
        yield TargetStore(connection, SystemClock())


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[list[bool]]:
    """The role in this process; what it said of its readiness."""
    said: list[bool] = []
    stop = asyncio.Event()
    task = asyncio.create_task(
        run_webhooks(settings, SystemClock(), RoleRegistry("webhooks"), stop, said.append)
    )
    try:
        await eventually(lambda: said or task.done())
        yield said
    finally:
        stop.set()
        await task


def got(receiver: Receiver) -> set[int]:
    return {one.json["data"]["seq"] for one in receiver.received}


async def test_alerts_reach_each_target_signed_and_bad_records_become_dead_letters(
    settings: Settings,
) -> None:
    settings = settings.model_copy(update=LOOPBACK)
    async with targets(settings) as store, receiving() as one, receiving() as two, running(settings):
        first = await store.add(NewTarget(one.url), ON_LOOPBACK)
        await store.add(NewTarget(two.url, symbols=("ETHUSDT",)), ON_LOOPBACK)
        alerts = fresh_alerts(range(20))
        bad = [b"{", orjson.dumps(alerts[0] | {"id": "not a uuid"})]
        strange = [{**alert, "timings": {"publish_ts_ms": 10**18}} for alert in fresh_alerts([50])]
        await publish(settings, [*bad, *alerts, *strange])
        await eventually(lambda: len(got(one)) == 21)
        letters = await read_until(
            settings, Topics.of(settings.names()).dead_letters, lambda found: len(found) == 2
        )
        secret = await store.secret(first.id)
    assert two.received == []
    assert {orjson.loads(letter.value)["stage"] for letter in letters} == {"webhooks"}
    sent = {alert["id"]: alert for alert in alerts + strange}
    for received in one.received:
        verified = Webhook(secret).verify(received.body, received.headers)
        data = dict(verified["data"])
        data.pop("seq")
        assert data == sent[data["id"]]
    assert len(set(one.ids)) == len(one.received) == 21


async def test_a_barrier_is_reported_when_the_alerts_before_it_are_in_the_outbox(settings: Settings) -> None:
    settings = settings.model_copy(update=LOOPBACK)
    redis = connect_redis(settings.server_urls().redis)
    reports = BarrierReports(redis, settings.names())
    async with targets(settings) as store, running(settings):
        target = await store.add(NewTarget(f"http://127.0.0.1:{free_port()}/"), ON_LOOPBACK)
        await publish(settings, [*fresh_alerts(range(10)), Barrier("b1", 0).encode()])

        async def reported() -> bool:
            return ("webhooks", 0) in await reports.read("b1")

        await eventually(reported)
        assert (await store.get(target.id)).pending == 10
    await redis.aclose()


async def test_a_users_url_reaches_no_host_that_operators_allow_themselves(settings: Settings) -> None:
    """Not even one that is a target already, as from a time when their hosts were everybody's."""
    settings = settings.model_copy(update=SHORT)
    async with (
        targets(settings) as store,
        receiving() as of_operators,
        receiving() as of_user,
        await AsyncConnection.connect(connection_url(settings.postgres()), autocommit=True) as database,
    ):
        await database.execute(
            "INSERT INTO user_settings (user_id, webhook_url, notification_enabled, selected_alerts) "
            "VALUES ('ann', %s, true, '{*}')",
            (of_user.url,),
        )
        await follow_settings(database, SystemClock().now_ms() - 60_000, allowed=ON_LOOPBACK)
        await store.add(NewTarget(of_operators.url), ON_LOOPBACK)
        async with running(settings):
            await publish(settings, fresh_alerts([1]))

            async def refused() -> bool:
                deliveries = await DeliveryLog(database, SystemClock(), "ann").newest(10)
                return [one.error for one in deliveries] == ["bad_url"]

            await eventually(refused)
            await eventually(lambda: of_operators.received)
    assert of_user.received == []


class Process:
    """The role in a process of its own, to be killed."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.log = directory / "webhooks.log"
        environ = role_environ(settings) | {"SCREENER_LOG_LEVEL": "debug"}
        self.child = ChildProcess("webhooks", role_argv("webhooks"), self.log, env=environ)


async def test_nothing_is_lost_when_the_process_is_killed_while_it_delivers(
    settings: Settings, tmp_path: Path
) -> None:
    """Killed twice: with requests under way that never get an answer, and in the middle of a backlog. Every alert
    arrives, repeats under the same id; and neither URLs nor secrets are in its log."""
    port = free_port()
    settings = settings.model_copy(update=SHORT | {"webhooks_port": port, "webhook_target_concurrency": 4})
    async with targets(settings) as store, receiving() as receiver:
        stalls = True

        async def answer(_: Received) -> web.StreamResponse:
            if stalls:
                await asyncio.Event().wait()
            await asyncio.sleep(0.002)
            return web.Response()

        receiver.answer = answer
        target = await store.add(NewTarget(receiver.url + "/hush-url?token=hush-query"), ON_LOOPBACK)
        process = Process(settings, tmp_path)
        process.child.start()
        try:
            await publish(settings, fresh_alerts(range(100)))
            await eventually(lambda: receiver.at_once == 4, within_s=60)
            process.child.kill()
            stalls = False
            process.child.start()
            await eventually(lambda: len(got(receiver)) > 30, within_s=60)
            process.child.kill()
            process.child.start()
            await publish(settings, fresh_alerts(range(100, 120)))

            async def all_settled() -> bool:
                found = await store.get(target.id)
                return len(got(receiver)) == 120 and found.pending == 0

            await eventually(all_settled, within_s=60)
            page = await metrics_page(port)
        finally:
            process.child.stop(10)
    ids = Counter((one.id, one.body) for one in receiver.received)
    assert len(ids) == 120
    assert len({identifier for identifier, _ in ids}) == 120
    assert 4 <= sum(ids.values()) - 120 <= 40
    log = process.log.read_text()
    assert "hush" not in log
    assert "whsec_" not in log
    assert "alert_engine_webhooks_sent_total" in page
    assert 'screener_frames_total{stage="webhooks"}' in page


async def metrics_page(port: int) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        return await answer.text()


async def test_nothing_is_lost_when_the_database_is_killed_while_it_delivers(
    stack: EmbeddedStack, tmp_path: Path
) -> None:
    port = free_port()
    private = EmbeddedStack.start(tmp_path / "private", ["postgres"], {"postgres": port})
    try:
        settings = settings_for(stack.urls | private.urls, **SHORT)
        async with receiving() as receiver:
            async with targets(settings) as store:
                target: Target = await store.add(NewTarget(receiver.url), ON_LOOPBACK)
            async with running(settings) as said:
                await publish(settings, fresh_alerts(range(30)))
                await eventually(lambda: len(receiver.received) > 5)
                private.processes["postgres"].kill()
                await publish(settings, fresh_alerts(range(30, 60)))
                await eventually(lambda: said == [True, False], within_s=60)
                private.stop()
                private = EmbeddedStack.start(tmp_path / "private", ["postgres"], {"postgres": port})
                await eventually(lambda: len(got(receiver)) == 60, within_s=60)

                async def all_settled() -> bool:
                    async with targets(settings) as again:
                        return (await again.get(target.id)).pending == 0

                await eventually(all_settled, within_s=60)
                assert said == [True, False, True]
    finally:
        private.stop()
    assert len(set(receiver.ids)) == 60


async def test_the_process_stops_in_good_order_on_sigterm(settings: Settings, tmp_path: Path) -> None:
    settings = settings.model_copy(update=LOOPBACK | {"webhooks_port": 0})
    async with targets(settings) as store, receiving() as receiver:
        await store.add(NewTarget(receiver.url), ON_LOOPBACK)
        process = Process(settings, tmp_path)
        process.child.start()
        await publish(settings, fresh_alerts(range(3)))
        await eventually(lambda: len(receiver.received) == 3, within_s=60)
        process.child.ask_to_stop()
        await eventually(lambda: process.child.poll() is not None)
    assert process.child.poll() == 0
    assert "role_stopped" in process.log.read_text()


@pytest.mark.parametrize(
    "lock",
    ["SELECT FROM webhook_deliveries FOR UPDATE", "LOCK TABLE webhook_deliveries IN ACCESS EXCLUSIVE MODE"],
)
async def test_an_outbox_that_another_session_keeps_locked_is_said_to_stand_still(
    settings: Settings, lock: str
) -> None:
    settings = settings.model_copy(update=LOOPBACK)
    async with (
        targets(settings) as store,
        receiving() as receiver,
        await AsyncConnection.connect(connection_url(settings.postgres()), autocommit=True) as other,
    ):
        await store.add(NewTarget(receiver.url), ON_LOOPBACK)
        due = [Alert.from_dict(one, 1) for one in fresh_alerts([1])]
        assert await route(other, due, SystemClock().now_ms()) == 1

        def stands_still() -> bool:
            still_since_ms = OWN_WORK.found()["outbox"].still_since_ms
            return still_since_ms is not None and SystemClock().now_ms() - still_since_ms > 11_000

        if lock.startswith("SELECT"):
            async with other.transaction():
                await other.execute(lock)
                async with running(settings):
                    await eventually(stands_still, 40)
                    assert OWN_WORK.found()["outbox"].count == 1
                    assert receiver.received == []
            return
        async with running(settings):
            await eventually(lambda: receiver.received)
            async with other.transaction():
                await other.execute(lock)
                await eventually(stands_still, 40)
            await eventually(lambda: not stands_still())
    assert OWN_WORK.found() == {}
