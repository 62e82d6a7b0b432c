"""The sinks: [candles], [metrics] and [alerts] into PostgreSQL.

Each topic has a consumer group, a task and a database connection of its own, so that an alert never waits
behind a backlog of metrics. Any number of processes may run; the partitions are shared among them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError
from redis.asyncio import Redis

from app.barrier import BarrierReports
from app.clock import Clock
from app.cooldown import connect_redis
from app.database.connection import WRITE_TIMEOUT_MS, open_pool, show_pool
from app.database.migrate import migrate
from app.database.retention import run_retention
from app.database.sink_tables import SinkTable, sink_tables
from app.database.timescale import use_timescale
from app.database.topic_sink import SinkEdges, TopicSink
from app.errors import ServerUnreachable
from app.kafka import REQUEST_MAX_BYTES, ensure_topics, kafka_producer
from app.kafka_access import kafka_access
from app.settings import Settings
from app.telemetry import database_metrics
from app.topics import Topics

# The least that brokers allow: so soon after a crash the partitions go to another process.
_SESSION_TIMEOUT_MS = 6_000


async def run_sinks(
    settings: Settings,
    clock: Clock,
    stop: asyncio.Event,
    on_ready: Callable[[bool], None] | None = None,
) -> None:
    """Migrates the database, then stores what arrives until `stop`; what was read by then is stored.

    Calls `on_ready` with True once it has its share of all topics' partitions, and with every change after
    that: False while the database does not answer. Raises SchemaTooNew, ServerUnreachable or SettingsError if
    it cannot start. Later losses of the database or Redis are waited out; anything unexpected ends it, to be
    started again.
    """
    await asyncio.to_thread(migrate, settings)
    timescale = await asyncio.to_thread(use_timescale, settings)
    await ensure_topics(settings)
    topics = Topics.of(settings)
    tables = sink_tables(topics)
    async with AsyncExitStack() as resources:
        pool = await open_pool(
            settings, max_size=len(tables) + 1, statement_timeout_ms=WRITE_TIMEOUT_MS, durable=True
        )
        resources.push_async_callback(pool.close)
        show_pool(pool, database_metrics())
        producer = await resources.enter_async_context(kafka_producer(settings))
        redis: Redis = connect_redis(settings.server_urls().redis)
        resources.push_async_callback(redis.aclose)

        async def send_letter(value: bytes) -> None:
            await producer.send_and_wait(topics.dead_letters, value, key=b"sinks", partition=0)

        sinks: list[TopicSink] = []
        changed = report_changes(lambda: all(sink.ready for sink in sinks), on_ready)
        edges = SinkEdges(pool, send_letter, BarrierReports(redis, settings), clock, stop, changed)
        for table in tables:
            consumer = await resources.enter_async_context(sink_consumer(settings, table))
            sinks.append(TopicSink(table, consumer, edges))
        async with asyncio.TaskGroup() as tasks:
            for sink in sinks:
                tasks.create_task(sink.run())
            if not timescale:
                tasks.create_task(run_retention(pool, settings.retention_hours, clock, stop))


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


@asynccontextmanager
async def sink_consumer(settings: Settings, table: SinkTable) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **kafka_access(settings),
        group_id=settings.name(table.stage),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=_SESSION_TIMEOUT_MS,
        heartbeat_interval_ms=_SESSION_TIMEOUT_MS // 3,
        fetch_max_wait_ms=table.fetch_wait_ms,
        fetch_max_bytes=2 * REQUEST_MAX_BYTES,
        max_partition_fetch_bytes=REQUEST_MAX_BYTES,
    )
    try:
        await consumer.start()
        yield consumer
    except KafkaConnectionError as error:
        raise ServerUnreachable(
            f"Kafka does not answer at {settings.kafka_url}: {error}; "
            "set SCREENER_KAFKA_URL to host:port of a broker"
        ) from error
    finally:
        await consumer.stop()
