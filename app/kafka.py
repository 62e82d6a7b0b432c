"""The Kafka edge shared by all roles: topics made to measure, and a producer that never gives up quietly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from app.errors import ServerError, ServerUnreachable, SettingsError
from app.kafka_access import kafka_access
from app.settings import Settings
from app.topics import Topics

REQUEST_MAX_BYTES = 16 * 1024 * 1024
"""Largest record. What the stages send stays far below it: 1,000 rows of metrics take 1.8 MB, 15,000 bars 2 MB."""
FIRST_OFFSET_CONFIG = "screener.first.offset"
"""A topic setting of the embedded broker: the offset of a new topic's first record. Its topics end with it, and
alerts stored before must keep smaller numbers than new ones."""
_HOUR_MS = 3_600_000


def _new_topics(settings: Settings, first_seq: int) -> list[NewTopic]:
    topics = Topics.of(settings)
    frames = {"max.message.bytes": str(REQUEST_MAX_BYTES), "compression.type": "producer"}
    retention_ms = {
        topics.ingress: 48 * _HOUR_MS,
        topics.candles: 48 * _HOUR_MS,
        # the widest frames, and nobody reads old ones: every value is in the database or can be recomputed
        topics.metrics: 2 * _HOUR_MS,
        topics.alerts: 14 * 24 * _HOUR_MS,
        # a feed that was away for longer asks the database what is missing
        topics.gaps: 48 * _HOUR_MS,
        topics.dead_letters: 14 * 24 * _HOUR_MS,
    }
    single = (topics.alerts, topics.gaps, topics.dead_letters)
    first = {FIRST_OFFSET_CONFIG: str(first_seq)} if first_seq else {}
    return [
        NewTopic(
            name,
            num_partitions=1 if name in single else settings.partitions,
            replication_factor=settings.replication_factor,
            topic_configs={
                "retention.ms": str(kept_ms),
                **frames,
                **(first if name == topics.alerts else {}),
            },
        )
        for name, kept_ms in retention_ms.items()
    ]


async def ensure_topics(settings: Settings, first_seq: int = 0) -> None:
    """Creates the topics that are missing; `first_seq` is where the offsets of [alerts] begin then, which only the
    embedded broker can do. Raises SettingsError if one has another number of partitions,
    ServerUnreachable if the broker does not answer, ServerError if it refuses."""
    wanted = _new_topics(settings, first_seq)
    admin = AIOKafkaAdminClient(**kafka_access(settings))
    try:
        await admin.start()
        response = await admin.create_topics(wanted)
        for name, code, *_ in response.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):
                raise ServerError(
                    f"Kafka does not create topic {name!r}: {for_code(code).__name__}; "
                    "see its log, and SCREENER_REPLICATION_FACTOR if it has fewer brokers than that"
                )
        described = await admin.describe_topics([topic.name for topic in wanted])
    except KafkaError as error:
        raise _unreachable(settings, error) from error
    finally:
        await admin.close()
    found = {topic["topic"]: len(topic["partitions"]) for topic in described}
    wrong = [
        f"{topic.name} has {found[topic.name]}, wanted {topic.num_partitions}"
        for topic in wanted
        if found.get(topic.name, 0) not in (0, topic.num_partitions)
    ]
    if wrong:
        raise SettingsError(
            f"topics exist with another number of partitions ({'; '.join(wrong)}); "
            "set SCREENER_PARTITIONS to what they have, or use another SCREENER_NAMESPACE"
        )


def _unreachable(settings: Settings, error: Exception) -> ServerUnreachable:
    return ServerUnreachable(
        f"Kafka does not answer at {settings.kafka_url}: {error}; set SCREENER_KAFKA_URL to host:port of a broker"
    )


@asynccontextmanager
async def kafka_producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    """A started producer: acknowledged by all replicas, no linger (frames are batches already)."""
    producer = AIOKafkaProducer(
        **kafka_access(settings),
        acks="all",
        linger_ms=0,
        max_request_size=REQUEST_MAX_BYTES,
        max_batch_size=1024 * 1024,
        request_timeout_ms=30_000,
        retry_backoff_ms=100,
    )
    try:
        await producer.start()
    except KafkaError as error:
        await producer.stop()
        raise _unreachable(settings, error) from error
    try:
        yield producer
    finally:
        await producer.stop()
