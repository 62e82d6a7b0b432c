"""Access to Kafka for all roles: client options, the topics with their settings, a producer that never gives up
quietly, and consumers of a group."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypedDict

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    BrokerNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)

from app.errors import ServerError, ServerUnreachable, SettingsError
from app.library_internals import knows_controller
from app.settings import Settings
from app.settings.access import KafkaAccess
from app.wire.topics import Topics

REQUEST_MAX_BYTES = 16 * 1024 * 1024
"""Largest record. The stages stay below it: 4,000 rows of metrics take 7.2 MB, 15,000 bars 2 MB."""
FIRST_OFFSET_CONFIG = "screener.first.offset"
"""The offset of a new topic's first record, a topic setting that only a broker in memory has (app/local/broker): alerts
that were stored before its topics were lost keep smaller numbers than new ones."""
_HOUR_MS = 3_600_000
# The minimum that brokers allow: this long after a crash, the partitions go to another process.
_SESSION_TIMEOUT_MS = 6_000
# How long a broker may hold an empty fetch. A record ends the wait of a fetch that asks for its partition,
# but while records are worked on aiokafka asks for the other partitions only, and sends no second fetch meanwhile.
_FETCH_WAIT_MS = 200
GATHER_MS = 100
"""The longest time that a consumer that gathers waits for more records."""
GATHERING = {"fetch_min_bytes": 4 * 1024 * 1024, "fetch_max_wait_ms": GATHER_MS}
"""Options of a consumer of frames that nobody waits for: it leaves the cores to the stages at the moment a market
closes, and gets the frames of that moment together."""

# aiokafka warns at every connection of settings that are intended
logging.getLogger("aiokafka.conn").addFilter(lambda record: "unencrypted" not in record.getMessage())


class ClientOptions(TypedDict, total=False):
    """Keyword arguments that aiokafka's clients share."""

    bootstrap_servers: str
    security_protocol: str
    ssl_context: ssl.SSLContext
    sasl_mechanism: str
    sasl_plain_username: str
    sasl_plain_password: str


def client_options_at(url: str) -> ClientOptions:
    """Return the options for a broker of which only the URL is given: unencrypted, with a password if it holds one."""
    return client_options(Settings.load({}, kafka_url=url).kafka())


def client_options(kafka: KafkaAccess) -> ClientOptions:
    """Return the keyword arguments that aiokafka's clients share.

    Raises SettingsError when the name or the password is missing, or the file of certificates cannot be used.
    """
    options: ClientOptions = {
        "bootstrap_servers": kafka.servers,
        "security_protocol": kafka.security.upper(),
    }
    if kafka.security.endswith("ssl"):
        options["ssl_context"] = _tls(kafka.ca_file)
    if kafka.security.startswith("sasl"):
        if kafka.username is None or kafka.password is None:
            raise SettingsError(
                f"SCREENER_KAFKA_SECURITY is {kafka.security}: "
                "set SCREENER_KAFKA_USERNAME and SCREENER_KAFKA_PASSWORD too"
            )
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.username
        options["sasl_plain_password"] = kafka.password.get_secret_value()
    return options


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise SettingsError(
            f"SCREENER_KAFKA_CA_FILE: no certificates can be read from {ca_file}: {error}"
        ) from error


def _new_topics(kafka: KafkaAccess, first_seq: int) -> list[NewTopic]:
    topics = Topics.of(kafka.namespace)
    frames = {"max.message.bytes": str(REQUEST_MAX_BYTES), "compression.type": "producer"}
    retention_ms = {
        topics.ingress: 48 * _HOUR_MS,
        topics.candles: 48 * _HOUR_MS,
        # the widest frames, and old ones have no reader: every value is in the database or can be recomputed
        topics.metrics: 2 * _HOUR_MS,
        # read back at a start, as far as the last memory of the rules
        topics.market: 2 * _HOUR_MS,
        topics.alerts: 14 * 24 * _HOUR_MS,
        # a feed that was down for longer asks the database for its missing minutes
        topics.gaps: 48 * _HOUR_MS,
        topics.dead_letters: 14 * 24 * _HOUR_MS,
    }
    single = (topics.market, topics.alerts, topics.gaps, topics.dead_letters)
    first = {FIRST_OFFSET_CONFIG: str(first_seq)} if first_seq else {}
    return [
        NewTopic(
            name,
            num_partitions=1 if name in single else kafka.partitions,
            replication_factor=kafka.replication_factor,
            topic_configs={
                "retention.ms": str(kept_ms),
                **frames,
                **(first if name == topics.alerts else {}),
            },
        )
        for name, kept_ms in retention_ms.items()
    ]


async def require_controller(admin: AIOKafkaAdminClient) -> None:
    """Raise BrokerNotAvailableError if Kafka can change no topic: a broker that the controller does not hear from
    answers, but names neither itself nor a controller."""
    if not await knows_controller(admin):
        raise BrokerNotAvailableError("it names no controller")


async def ensure_topics(kafka: KafkaAccess, first_seq: int = 0) -> None:
    """Create the topics that are missing. `first_seq`: where the offsets of a new [alerts] begin (FIRST_OFFSET_CONFIG),
    0 on a broker that keeps its topics. Raises SettingsError if one has another number of partitions,
    ServerUnreachable if the broker does not answer, ServerError if it refuses."""
    wanted = _new_topics(kafka, first_seq)
    admin = AIOKafkaAdminClient(**client_options(kafka))
    try:
        await admin.start()
        await require_controller(admin)
        response = await admin.create_topics(wanted)
        for name, code, *_ in response.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):
                raise ServerError(
                    f"Kafka does not create topic {name!r}: {for_code(code).__name__}; "
                    "see its log, and SCREENER_REPLICATION_FACTOR if it has fewer brokers than that"
                )
        described = await admin.describe_topics([topic.name for topic in wanted])
    except KafkaError as error:
        raise _unreachable(kafka, error) from error
    finally:
        await admin.close()
    found = {topic["topic"]: len(topic["partitions"]) for topic in described}
    require_partitions(found, {topic.name: topic.num_partitions for topic in wanted})


def require_partitions(found: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    """Raise SettingsError if a topic has another number of partitions than wanted; topic -> number of partitions, 0 or
    no entry where it is not known."""
    wrong = [
        f"{topic} has {found[topic]}, needs {number}"
        for topic, number in wanted.items()
        if found.get(topic, 0) not in (0, number)
    ]
    if wrong:
        raise SettingsError(
            f"topics exist with another number of partitions ({'; '.join(wrong)}); "
            "set SCREENER_PARTITIONS to their number, or use another SCREENER_NAMESPACE"
        )


def _unreachable(kafka: KafkaAccess, error: Exception) -> ServerUnreachable:
    return ServerUnreachable(
        f"Kafka does not answer at {kafka.servers}: {error}; set SCREENER_KAFKA_URL to host:port of a broker"
    )


async def send_in_batches(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Iterable[tuple[bytes, bytes]]
) -> list[asyncio.Future[Any]]:
    """Hand (key, value) records over in whole batches, in order, and return a future per batch, done when Kafka has it.

    A `send` for each record costs many times as much."""
    waiting = deque(records)
    delivered = []
    while waiting:
        batch = producer.create_batch()
        # a batch takes its first record whatever its size
        while waiting and batch.append(key=waiting[0][0], value=waiting[0][1], timestamp=None):
            waiting.popleft()
        delivered.append(await producer.send_batch(batch, topic, partition=partition))
    return delivered


@asynccontextmanager
async def kafka_producer(kafka: KafkaAccess) -> AsyncIterator[AIOKafkaProducer]:
    """Yield a started producer: acknowledged by all replicas, no linger (frames are batches already)."""
    producer = AIOKafkaProducer(
        **client_options(kafka),
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
        raise _unreachable(kafka, error) from error
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def group_consumer(
    kafka: KafkaAccess, group: str, begins: Literal["earliest", "latest"] = "earliest", gathers: bool = False
) -> AsyncIterator[AIOKafkaConsumer]:
    """Yield a started consumer of this group in the namespace; the caller subscribes and commits.

    begins: at which record a group without a usable commit begins. gathers: see `GATHERING`. Raises ServerUnreachable
    if the broker does not answer."""
    consumer = AIOKafkaConsumer(
        **client_options(kafka),
        group_id=kafka.namespace.name(group),
        auto_offset_reset=begins,
        enable_auto_commit=False,
        session_timeout_ms=_SESSION_TIMEOUT_MS,
        heartbeat_interval_ms=_SESSION_TIMEOUT_MS // 3,
        **(GATHERING if gathers else {"fetch_max_wait_ms": _FETCH_WAIT_MS}),
        fetch_max_bytes=2 * REQUEST_MAX_BYTES,
        max_partition_fetch_bytes=REQUEST_MAX_BYTES,
    )
    try:
        await consumer.start()
        yield consumer
    except KafkaConnectionError as error:
        raise _unreachable(kafka, error) from error
    finally:
        await consumer.stop()
