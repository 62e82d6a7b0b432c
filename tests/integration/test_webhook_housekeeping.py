"""The housekeeping of the outbox: what it deletes, measures, and survives."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.clock import SystemClock
from app.database.connection import open_pool
from app.database.migrate import migrate
from app.settings import Settings
from app.telemetry import webhook_metrics
from app.webhooks.delivery.housekeeping import delete_old, keep_house, measure
from app.webhooks.delivery.post import Answer
from tests.support.eventually import eventually
from tests.support.metric_values import UNREAD, value_of
from tests.support.webhooks import Outbox, alert, seqs

METRICS = webhook_metrics(CollectorRegistry())
DAY_MS = 24 * 3_600_000
HOOK = "https://example.com/hook"


async def test_only_what_is_settled_is_deleted_when_it_is_old(box: Outbox) -> None:
    waiting = await box.add(HOOK)
    await box.put(*(alert(number) for number in range(5)))
    claimed = await box.claim()
    await box.settle(claimed[:2])
    await box.settle(claimed[2:3], Answer("gone", 410, None, 1))
    box.clock.advance_ms(14 * DAY_MS)
    assert await delete_old(box.connection, box.clock.now_ms(), 14) == 0
    box.clock.advance_ms(1)
    assert await delete_old(box.connection, box.clock.now_ms(), 14, batch_rows=2) == 3
    left = await box.deliveries()
    assert [(one.seq, one.status, one.error) for one in left] == [
        (3, "dead", "target_off"),
        (4, "dead", "target_off"),
    ]
    assert await box.log().redeliver_dead(waiting.id) == 2
    await box.targets().enable(waiting.id)
    assert seqs(await box.claim()) == [[3], [4]]
    cursor = await box.connection.execute("SELECT seq FROM webhook_alerts ORDER BY seq")
    assert await cursor.fetchall() == [(3,), (4,)]


async def test_the_depth_of_the_outbox_is_measured(box: Outbox) -> None:
    await box.add(HOOK)
    await box.put(alert(1), alert(2))
    box.clock.advance_ms(7_000)
    await measure(box.connection, box.clock.now_ms(), METRICS)
    assert value_of(METRICS.outbox.labels(state="pending")) == 2
    assert value_of(METRICS.oldest_due) == pytest.approx(7.0)
    assert value_of(METRICS.targets.labels(state="enabled")) == 1


async def test_housekeeping_goes_on_while_the_database_takes_no_writes(settings: Settings) -> None:
    await asyncio.to_thread(migrate, settings.postgres())
    assert settings.postgres_url is not None
    standby = make_conninfo(
        settings.postgres_url.get_secret_value(), options="-c default_transaction_read_only=on"
    )
    stop = asyncio.Event()
    async with await open_pool(
        settings.model_copy(update={"postgres_url": SecretStr(standby)}).postgres()
    ) as pool:
        with capture_logs() as logged:
            house = asyncio.create_task(keep_house(pool, 14, SystemClock(), stop, lambda _: None, UNREAD))
            await eventually(lambda: logged or house.done())
            stop.set()
            await house
    assert {one["event"] for one in logged} == {"housekeeping_failed"}
