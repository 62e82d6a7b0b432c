"""The role `webhooks`: alerts from [alerts] into the outbox, and out of it to the targets.

Any number of processes may run. One of them reads the topic, which has a single partition; all of them send.
Order of effects: the deliveries of an alert are in the database before its offset is committed, and a message is
settled there after its receiver answered. A crash in between repeats, with the same id; it never loses.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.errors import ForeignKeyViolation
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from app.barrier import BarrierReports
from app.clock import Clock
from app.cooldown import connect_redis
from app.database.connection import WRITE_TIMEOUT_MS, Pool, open_pool
from app.database.migrate import migrate
from app.database.sink_tables import SinkTable, decoded_alert
from app.database.sinks import report_changes, sink_consumer
from app.database.topic_sink import SinkEdges, TopicSink
from app.kafka import ensure_topics, kafka_producer
from app.settings import Settings
from app.telemetry import database_metrics, webhook_metrics
from app.topics import Topics
from app.webhooks.housekeeping import keep_house
from app.webhooks.outbox import is_stale, route
from app.webhooks.post import webhook_client
from app.webhooks.sender import Sender, SenderLimits
from app.webhooks.settings_target import put_settings_target
from app.webhooks.targets import AllowedHosts
from app.webhooks.user_targets import follow_settings

log = structlog.get_logger("webhooks")

STAGE = "webhooks"
"""Who reports barriers, and the name of the consumer group."""
_POOL_SIZE = 4
_LOOKS = 5


def outbox_table(settings: Settings, clock: Clock, written: Callable[[], None]) -> SinkTable:
    """[alerts] into webhook_deliveries, as a sink reads and writes. `written` is called after new deliveries."""
    allowed = AllowedHosts.of(settings)
    max_age_ms = settings.webhook_max_age_minutes * 60_000

    # a user or a target that is deleted meanwhile is not there any more at the next look
    @retry(retry=retry_if_exception_type(ForeignKeyViolation), stop=stop_after_attempt(_LOOKS), reraise=True)
    async def write(connection: AsyncConnection, alerts: Sequence[Any]) -> int:
        now_ms = clock.now_ms()
        await follow_settings(connection, allowed, now_ms)
        wanted = [alert for alert in alerts if not max_age_ms or not is_stale(alert, now_ms, max_age_ms)]
        new = await route(connection, wanted, now_ms) if wanted else 0
        webhook_metrics().stale.inc(len(alerts) - len(wanted))
        if new:
            written()
        return new

    return SinkTable(
        stage=STAGE,
        topic=Topics.of(settings).alerts,
        name="webhook_deliveries",
        # a batch of many alerts for very many users must end within the statement's time limit
        max_rows=200,
        linger_ms=5,
        fetch_wait_ms=20,
        decode=decoded_alert,
        write=write,
    )


async def run_webhooks(
    settings: Settings,
    clock: Clock,
    stop: asyncio.Event,
    on_ready: Callable[[bool], None] | None = None,
) -> None:
    """Migrates the database, then routes and sends until `stop`.

    Calls `on_ready` with True once it has its share of the topic, and with every change after that: False while the
    database does not answer. Raises SchemaTooNew, ServerUnreachable or SettingsError if it cannot start. Later losses
    of the database are waited out; anything unexpected ends it, to be started again.
    """
    await asyncio.to_thread(migrate, settings)
    await ensure_topics(settings)
    async with AsyncExitStack() as resources:
        pool = await open_pool(
            settings, max_size=_POOL_SIZE, statement_timeout_ms=WRITE_TIMEOUT_MS, durable=True
        )
        resources.push_async_callback(pool.close)
        await _follow_deployment(pool, settings, clock)
        sender = await resources.enter_async_context(_sender(settings, clock, pool))
        sink = await resources.enter_async_context(_sink(settings, clock, pool, sender.wake, stop, on_ready))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sink.run())
            tasks.create_task(sender.run(stop, _outage))
            tasks.create_task(keep_house(pool, settings, clock, stop))


async def _follow_deployment(pool: Pool, settings: Settings, clock: Clock) -> None:
    url = settings.webhook_url.get_secret_value() if settings.webhook_url else None
    async with pool.connection() as connection:
        await put_settings_target(connection, url, AllowedHosts.of(settings), clock.now_ms())


@asynccontextmanager
async def _sender(settings: Settings, clock: Clock, pool: Pool) -> AsyncIterator[Sender]:
    limits = SenderLimits(
        settings.webhook_concurrency, settings.webhook_target_concurrency, settings.webhook_timeout_s
    )
    allowed = AllowedHosts.of(settings)
    async with webhook_client(allowed, limits.timeout_s, clock, limits.concurrency) as client:
        yield Sender(pool, client, limits, clock, random.random)


@asynccontextmanager
async def _sink(
    settings: Settings,
    clock: Clock,
    pool: Pool,
    written: Callable[[], None],
    stop: asyncio.Event,
    on_ready: Callable[[bool], None] | None,
) -> AsyncIterator[TopicSink]:
    table = outbox_table(settings, clock, written)
    letters = Topics.of(settings).dead_letters
    async with (
        kafka_producer(settings) as producer,
        connect_redis(settings.server_urls().redis) as redis,
        sink_consumer(settings, table) as consumer,
    ):

        async def send_letter(value: bytes) -> None:
            await producer.send_and_wait(letters, value, key=STAGE.encode(), partition=0)

        sinks: list[TopicSink] = []
        changed = report_changes(lambda: all(sink.ready for sink in sinks), on_ready)
        edges = SinkEdges(pool, send_letter, BarrierReports(redis, settings), clock, stop, changed)
        sinks.append(TopicSink(table, consumer, edges))
        yield sinks[0]


def _outage(error: BaseException) -> None:
    if isinstance(error, psycopg.Error):
        database_metrics().errors.labels(operation="webhooks_outbox").inc()
    log.warning("sender_waits", error=str(error))
