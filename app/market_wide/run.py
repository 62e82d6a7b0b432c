"""The role `market` as a process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from app.alerts.cooldowns import Cooldowns
from app.alerts.engine import AlertEngine, Publish
from app.alerts.known_rules import KnownRules
from app.alerts.rule_watch import RuleWatch
from app.alerts.switched_off import SwitchedOffBoard
from app.clock import Clock
from app.database.candles.minutes import database_history
from app.errors import ServerUnreachable
from app.market_wide.kept import read_kept
from app.market_wide.minutes import Minutes, Write
from app.market_wide.one_reader import one_reader
from app.market_wide.past import StoredPast
from app.market_wide.stage import STAGE, MarketEdges, MarketStage, SealLimits
from app.process.quarantine import Attempts, attempts_of
from app.process.tasks import ended, kept_running
from app.rules.files import fingerprint
from app.settings import Settings
from app.settings.access import KafkaAccess
from app.telemetry import alert_metrics, database_metrics, market_metrics, pipeline_metrics
from app.telemetry.catalogue import RoleRegistry
from app.wire.barrier import BarrierReports, connect_barriers
from app.wire.kafka import REQUEST_MAX_BYTES, client_options, ensure_topics, kafka_producer
from app.wire.market_minutes import Record
from app.wire.nats.progress import Entered
from app.wire.redis import connect_redis
from app.wire.topics import Topics

# The least that brokers allow: so long after a crash another process takes over.
_SESSION_TIMEOUT_MS = 6_000
_FETCH_WAIT_MS = 200


async def run_market(
    settings: Settings,
    clock: Clock,
    registry: RoleRegistry,
    stop: asyncio.Event,
    on_ready: Callable[[bool], None] | None = None,
) -> None:
    """Seal and evaluate until `stop`, or stand by while another process does.

    Calls `on_ready` with True once it reads or stands by. Raises ServerUnreachable or SettingsError if it cannot start;
    a later loss of Kafka ends it, to be started again.
    """
    kafka, names = settings.kafka(), settings.names()
    await ensure_topics(kafka)
    topics = Topics.of(names)
    async with AsyncExitStack() as resources:
        producer = await resources.enter_async_context(kafka_producer(kafka))
        redis = connect_redis(settings.redis().url)
        resources.push_async_callback(redis.aclose)
        patient = connect_barriers(settings.redis().url)
        resources.push_async_callback(patient.aclose)
        rules = RuleWatch(
            settings.postgres(),
            KnownRules(settings.data_dir, names),
            "close",
            clock,
            registry,
            role=STAGE,
        )
        await rules.begin()
        engine = AlertEngine(
            STAGE,
            rules,
            Cooldowns(redis, names, alert_metrics(registry)),
            _publish(producer, topics.alerts),
            settings.alert_backfilled_after_s * 1000,
            clock,
            alert_metrics(registry),
        )
        pipeline, metrics = pipeline_metrics(registry), market_metrics(registry)
        history = database_history(settings.postgres(), settings.partitions, database_metrics(registry))
        past = StoredPast(history, settings.partitions)

        attempts = attempts_of(settings.data_dir, names, pipeline)(STAGE)
        entered = Entered(settings.nats())
        resources.push_async_callback(entered.close)
        edges = _edges(kafka, producer, entered, BarrierReports(patient, names), attempts, clock)
        consumer = await resources.enter_async_context(_consumer(kafka, clock))
        stage = MarketStage(
            consumer,
            topics.metrics,
            Minutes(engine, _write(producer, topics.market), past, metrics, attempts),
            SealLimits(settings.partitions, settings.market_grace_ms, settings.market_wait_s),
            edges,
            lambda: {"rules": fingerprint(rules.book.rules)},
            metrics,
            pipeline,
            on_ready or (lambda _: None),
        )
        board = SwitchedOffBoard(redis, names, rules.switched_off, clock)
        beside = [
            asyncio.create_task(kept_running(name, run, registry.process), name=name)
            for name, run in (("rules", rules.run), ("switched-off rules", board.run))
        ]
        resources.push_async_callback(ended, *beside)
        await stage.run(stop)


def _edges(
    kafka: KafkaAccess,
    producer: AIOKafkaProducer,
    entered: Entered,
    barriers: BarrierReports,
    attempts: Attempts,
    clock: Clock,
) -> MarketEdges:
    topics = Topics.of(kafka.namespace)

    async def send_fence(partition: int, value: bytes) -> None:
        await producer.send_and_wait(topics.ingress, value, partition=partition)

    async def forward(value: bytes) -> None:
        await producer.send_and_wait(topics.alerts, value, partition=0)

    async def send_letter(value: bytes) -> None:
        await producer.send_and_wait(topics.dead_letters, value)

    kept = partial(read_kept, client_options(kafka), topics.market)
    return MarketEdges(kept, send_fence, entered.everything, forward, send_letter, barriers, attempts, clock)


def _publish(producer: AIOKafkaProducer, topic: str) -> Publish:
    async def publish(records: list[tuple[str, bytes]]) -> None:
        await _send(producer, topic, [(symbol.encode(), alert) for symbol, alert in records])

    return publish


def _write(producer: AIOKafkaProducer, topic: str) -> Write:
    return partial(_send, producer, topic)


async def _send(producer: AIOKafkaProducer, topic: str, records: Sequence[Record]) -> int:
    """Return the offset of the first record once Kafka has all."""
    sent = [await producer.send(topic, value, key=key, partition=0) for key, value in records]
    offsets: list[int] = [found.offset for found in await asyncio.gather(*sent)]
    return min(offsets)


@asynccontextmanager
async def _consumer(kafka: KafkaAccess, clock: Clock) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **client_options(kafka),
        group_id=kafka.namespace.name(STAGE),
        partition_assignment_strategy=(one_reader(clock.now_ms()),),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=_SESSION_TIMEOUT_MS,
        heartbeat_interval_ms=_SESSION_TIMEOUT_MS // 3,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        max_partition_fetch_bytes=REQUEST_MAX_BYTES,
    )
    try:
        await consumer.start()
        yield consumer
    except KafkaError as error:
        raise ServerUnreachable(
            f"Kafka does not answer at {kafka.servers}: {error!r}; "
            "set SCREENER_KAFKA_URL to host:port of a broker"
        ) from error
    finally:
        await consumer.stop()
