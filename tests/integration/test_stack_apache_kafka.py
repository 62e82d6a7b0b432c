"""The Apache Kafka of the tests is a real broker that keeps its data when it is stopped or killed."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.support.apache_kafka import ApacheKafka

pytestmark = pytest.mark.kafka


async def _create(url: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=url)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1)])
    finally:
        await admin.close()


async def _send(url: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=url, acks="all") as producer:
        await producer.send_and_wait(topic, value, partition=1, headers=[("kind", b"test")])


async def _read(url: str, topic: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(bootstrap_servers=url, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, 1)])
        return [(await consumer.getone()).value for _ in range(count)]


async def test_what_is_sent_can_be_read(apache_kafka: ApacheKafka) -> None:
    topic = f"t_{uuid4().hex}"
    await _create(apache_kafka.url, topic)
    await _send(apache_kafka.url, topic, b"value")
    assert await _read(apache_kafka.url, topic, 1) == [b"value"]


@pytest.mark.parametrize("end", [ApacheKafka.stop, ApacheKafka.kill], ids=["stopped", "killed"])
async def test_records_survive_a_restart_of_the_broker(
    apache_kafka: ApacheKafka, end: Callable[[ApacheKafka], None]
) -> None:
    topic = f"t_{uuid4().hex}"
    await _create(apache_kafka.url, topic)
    await _send(apache_kafka.url, topic, b"before")
    try:
        end(apache_kafka)
    finally:
        apache_kafka.start()
    await _send(apache_kafka.url, topic, b"after")
    assert await _read(apache_kafka.url, topic, 2) == [b"before", b"after"]
