"""The sinks: [candles], [metrics] and [alerts] into PostgreSQL.

Each topic has its own consumer group, task and database connection, so that an alert never waits
behind a backlog of metrics. Any number of processes may run; the partitions are shared among them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

from redis.asyncio import Redis

from app.clock import Clock
from app.database.connection import WRITE_TIMEOUT_MS, open_pool, show_pool
from app.database.migrate import check_schema
from app.process.quarantine import attempts_of
from app.process.tasks import kept_running
from app.settings import Settings
from app.sinks.edges import SinkEdges, letter_sender
from app.sinks.retention import Kept, run_retention
from app.sinks.rollups import roll_up_stored
from app.sinks.tables import sink_tables
from app.sinks.topic_sink import TopicSink
from app.telemetry import database_metrics, pipeline_metrics, retention_metrics
from app.telemetry.catalogue import RoleRegistry
from app.wire.barrier import BarrierReports
from app.wire.kafka import GATHER_MS, ensure_topics, group_consumer, kafka_producer
from app.wire.redis import connect_redis
from app.wire.topics import Topics


async def run_sinks(
    settings: Settings,
    clock: Clock,
    registry: RoleRegistry,
    stop: asyncio.Event,
    on_ready: Callable[[bool], None] | None = None,
) -> None:
    """Store arriving records until `stop`; records read by then are stored.

    Calls `on_ready` with True once it has its share of all topics' partitions, and with every change after
    that: False while the database does not answer. Raises SchemaTooNew, SchemaTooOld, ServerUnreachable or
    SettingsError if it cannot start. Later losses of the database or Redis are waited out; anything unexpected
    ends it, to be started again.
    """
    postgres, kafka = settings.postgres(), settings.kafka()
    await check_schema(postgres)
    await ensure_topics(kafka)
    topics = Topics.of(kafka.namespace)
    tables = sink_tables(topics)
    async with AsyncExitStack() as resources:
        pool = await open_pool(
            postgres, max_size=len(tables) + 1, statement_timeout_ms=WRITE_TIMEOUT_MS, durable=True
        )
        resources.push_async_callback(pool.close)
        show_pool(pool, database_metrics(registry))
        async with pool.connection() as connection:
            await roll_up_stored(connection)
        producer = await resources.enter_async_context(kafka_producer(kafka))
        redis: Redis = connect_redis(settings.redis().url)
        resources.push_async_callback(redis.aclose)

        sinks: list[TopicSink] = []
        changed = report_changes(lambda: all(sink.ready for sink in sinks), on_ready)
        edges = SinkEdges(
            pool,
            letter_sender(producer, topics.dead_letters, "sinks"),
            BarrierReports(redis, settings.names()),
            clock,
            stop,
            attempts_of(settings.data_dir, settings.names(), pipeline_metrics(registry)),
            changed,
            registry,
        )
        for table in tables:
            gathers = table.linger_ms > GATHER_MS
            consumer = await resources.enter_async_context(
                group_consumer(kafka, table.stage, gathers=gathers)
            )
            sinks.append(TopicSink(table, consumer, edges))
        async with asyncio.TaskGroup() as tasks:
            for sink in sinks:
                tasks.create_task(sink.run())
            retention = partial(
                run_retention,
                pool,
                Kept(settings.retention_hours, settings.history_days),
                clock,
                stop,
                database_metrics(registry),
                retention_metrics(registry),
            )
            tasks.create_task(kept_running("retention", retention))


def report_changes(
    is_ready: Callable[[], bool], on_ready: Callable[[bool], None] | None
) -> Callable[[], None]:
    last = False

    def changed() -> None:
        nonlocal last
        now = is_ready()
        if now != last and on_ready is not None:
            on_ready(now)
        last = now

    return changed
