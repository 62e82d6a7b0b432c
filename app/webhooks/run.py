"""The role `webhooks`: alerts from [alerts] into the outbox, and out of it to the targets.

Any number of processes may run. One of them reads the topic, which has a single partition; all of them send.
Order of effects: the deliveries of an alert are in the database before its offset is committed, and a message is
settled there after its receiver answered. A crash in between repeats a message, with the same id; it loses none.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog
from psycopg import AsyncConnection
from psycopg.errors import ForeignKeyViolation
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from app.clock import Clock
from app.database.connection import WRITE_TIMEOUT_MS, Pool, open_pool
from app.database.migrate import check_schema
from app.process.health.backlog import OWN_WORK
from app.process.quarantine import Attempts, attempts_of
from app.process.tasks import kept_running
from app.rules.alert import Alert
from app.settings import Settings
from app.sinks.edges import SinkEdges, letter_sender
from app.sinks.run import report_changes
from app.sinks.tables import SinkTable, decoded_alert
from app.sinks.topic_sink import TopicSink
from app.telemetry import WebhookMetrics, pipeline_metrics, webhook_metrics
from app.telemetry.catalogue import RoleRegistry
from app.webhooks.delivery.housekeeping import keep_house
from app.webhooks.delivery.outbox import is_stale, route
from app.webhooks.delivery.post import webhook_client
from app.webhooks.delivery.sender import Sender, SenderLimits
from app.webhooks.targets.settings_targets import follow_settings, put_settings_target
from app.webhooks.targets.urls import AllowedHosts
from app.wire.barrier import BarrierReports
from app.wire.kafka import ensure_topics, group_consumer, kafka_producer
from app.wire.redis import connect_redis
from app.wire.topics import Topics

log = structlog.get_logger("webhooks")

STAGE = "webhooks"
"""Name of the stage in barriers, and of the consumer group."""
_POOL_SIZE = 4
_LOOKS = 5


def outbox_table(
    topic: str, max_age_ms: int, clock: Clock, written: Callable[[], None], metrics: WebhookMetrics
) -> SinkTable:
    """Return the sink table that writes [alerts] to webhook_deliveries. `written` is called after new deliveries.

    max_age_ms: alerts that were older than this when they were published are left out; 0 leaves out no alert.
    """

    # a user or a target that is deleted meanwhile is not there any more at the next look
    @retry(retry=retry_if_exception_type(ForeignKeyViolation), stop=stop_after_attempt(_LOOKS), reraise=True)
    async def write(connection: AsyncConnection, alerts: Sequence[Alert]) -> int:
        now_ms = clock.now_ms()
        await follow_settings(connection, now_ms)
        told = [alert for alert in alerts if not alert.shadow]
        wanted = [
            alert
            for alert in told
            if not alert.backfilled and not (max_age_ms and is_stale(alert, now_ms, max_age_ms))
        ]
        new = await route(connection, wanted, now_ms) if wanted else 0
        metrics.stale.inc(len(told) - len(wanted))
        if new:
            written()
        return new

    return SinkTable(
        stage=STAGE,
        topic=topic,
        name="webhook_deliveries",
        # a batch of many alerts for very many users must end within the statement's time limit
        max_rows=200,
        linger_ms=5,
        decode=decoded_alert,
        write=write,
    )


async def run_webhooks(
    settings: Settings,
    clock: Clock,
    registry: RoleRegistry,
    stop: asyncio.Event,
    on_ready: Callable[[bool], None] | None = None,
) -> None:
    """Route and send until `stop`.

    Calls `on_ready` with True once it has its share of the topic, and with every change after that: False while the
    database does not answer. Raises SchemaTooNew, SchemaTooOld, ServerUnreachable or SettingsError if it cannot start.
    Later losses of the database are waited out; anything unexpected ends it, to be started again.
    """
    postgres = settings.postgres()
    await check_schema(postgres)
    await ensure_topics(settings.kafka())
    async with AsyncExitStack() as resources:
        pool = await open_pool(
            postgres, max_size=_POOL_SIZE, statement_timeout_ms=WRITE_TIMEOUT_MS, durable=True
        )
        resources.push_async_callback(pool.close)
        allowed = AllowedHosts.of(settings.webhook_allowed_hosts)
        url = settings.webhook_url.get_secret_value() if settings.webhook_url else None
        async with pool.connection() as connection:
            await put_settings_target(connection, url, allowed, clock.now_ms())
        limits = SenderLimits(
            settings.webhook_concurrency, settings.webhook_target_concurrency, settings.webhook_timeout_s
        )
        client = await resources.enter_async_context(
            webhook_client(allowed, limits.timeout_s, clock, limits.concurrency)
        )
        attempts = attempts_of(settings.data_dir, settings.names(), pipeline_metrics(registry))
        sender = Sender(pool, client, limits, clock, random.random, attempts("webhooks-outbox"), registry)
        parts = _sink(settings, clock, registry, pool, attempts, sender.wake, stop, on_ready)
        sink = await resources.enter_async_context(parts)
        resources.enter_context(OWN_WORK.shown("outbox", sender.waiting))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sink.run())
            tasks.create_task(sender.run(stop))
            house = partial(
                keep_house,
                pool,
                settings.webhook_retention_days,
                clock,
                stop,
                sender.note_depth,
                registry,
            )
            tasks.create_task(kept_running("webhooks-housekeeping", house))


@asynccontextmanager
async def _sink(
    settings: Settings,
    clock: Clock,
    registry: RoleRegistry,
    pool: Pool,
    attempts: Callable[[str], Attempts],
    written: Callable[[], None],
    stop: asyncio.Event,
    on_ready: Callable[[bool], None] | None,
) -> AsyncIterator[TopicSink]:
    topics = Topics.of(settings.names())
    max_age_ms = settings.webhook_max_age_minutes * 60_000
    table = outbox_table(topics.alerts, max_age_ms, clock, written, webhook_metrics(registry))
    async with (
        kafka_producer(settings.kafka()) as producer,
        connect_redis(settings.redis().url) as redis,
        group_consumer(settings.kafka(), table.stage) as consumer,
    ):
        sinks: list[TopicSink] = []
        changed = report_changes(lambda: all(sink.ready for sink in sinks), on_ready)
        edges = SinkEdges(
            pool,
            letter_sender(producer, topics.dead_letters, STAGE),
            BarrierReports(redis, settings.names()),
            clock,
            stop,
            attempts,
            changed,
            registry,
        )
        sinks.append(TopicSink(table, consumer, edges))
        yield sinks[0]
