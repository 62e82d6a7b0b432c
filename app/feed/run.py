"""The role `feed`: a feed with its connections to the servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import aiohttp
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from app.clock import Clock
from app.database.candles.minutes import stored_runs
from app.feed.exchanges.venues import exchange_access
from app.feed.feed import Feed, FeedEdges, FeedOptions
from app.feed.history.backfill import BackfillTimes
from app.feed.history.gap_reader import read_gaps
from app.feed.history.warm_up import SendRecord
from app.feed.sockets.connection import SocketTimes
from app.process.health.backlog import OWN_WORK, look_at
from app.settings import Settings
from app.telemetry import database_metrics, feed_metrics, nats_metrics
from app.telemetry.catalogue import RoleRegistry
from app.wire.kafka import ensure_topics, kafka_producer
from app.wire.nats.publish import candle_publisher
from app.wire.redis import connect_redis
from app.wire.tickers import TickerStore
from app.wire.topics import Topics

log = structlog.get_logger("feed")


@asynccontextmanager
async def opened_feed(
    settings: Settings,
    clock: Clock,
    registry: RoleRegistry,
    *,
    patience: SocketTimes | None = None,
    times: BackfillTimes | None = None,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[Feed]:
    """Yield a feed with its connections to NATS and Redis; wait for the stream until `stop` is set.

    Raises SettingsError for an exchange that is not known, ServerUnreachable if NATS or Kafka does not answer."""
    options = FeedOptions(
        exchange=exchange_access(settings.exchange, settings.exchange_rest_url, settings.exchange_ws_url),
        symbols_max=settings.exchange_symbols,
        refresh_s=settings.exchange_refresh_s,
        tradifi=settings.exchange_tradifi,
        stale_s=settings.exchange_stale_s,
        partitions=settings.partitions,
    )
    kafka = settings.kafka()
    async with AsyncExitStack() as resources:
        await ensure_topics(kafka)
        publisher = await resources.enter_async_context(
            candle_publisher(
                settings.nats(),
                "feed",
                forming_per_message=settings.forming_per_message,
                stop=stop,
                metrics=nats_metrics(registry),
            )
        )
        redis = connect_redis(settings.redis().url)
        resources.push_async_callback(redis.aclose)
        session = await resources.enter_async_context(aiohttp.ClientSession())
        producer = await resources.enter_async_context(kafka_producer(kafka))
        edges = FeedEdges(
            session,
            publisher,
            TickerStore(redis, settings.names()),
            _bar_sender(producer, Topics.of(kafka.namespace).candles),
            partial(stored_runs, settings.postgres(), database_metrics(registry)),
            partial(read_gaps, kafka),
        )
        yield Feed(options, edges, clock, feed_metrics(registry), patience=patience, times=times)


def _bar_sender(producer: AIOKafkaProducer, topic: str) -> SendRecord:
    """Return a function that sends a record of bars to a partition of the topic, and tells whether Kafka has it."""

    async def send(partition: int, record: bytes) -> bool:
        try:
            await producer.send_and_wait(topic, record, key=str(partition).encode(), partition=partition)
        except KafkaError as error:
            log.warning("indicator_bars_not_sent", partition=partition, error=repr(error))
            return False
        return True

    return send


async def run_feed(
    settings: Settings,
    clock: Clock,
    registry: RoleRegistry,
    stop: asyncio.Event,
    on_ready: Callable[[bool], None] | None = None,
) -> None:
    """Run the role until `stop`; an unreachable exchange is retried for ever, and logged."""
    async with opened_feed(settings, clock, registry, stop=stop) as feed:
        with OWN_WORK.shown("nats", look_at(lambda: feed.position, clock)):
            await feed.run(stop, on_ready)
