"""What the screener relies on in a Kafka broker: one contract, kept by our broker and by Apache Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import MessageSizeTooLargeError, OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata, OffsetAndTimestamp

from app.wire.kafka import client_options_at
from tests.support.eventually import eventually

TOPIC_EXISTS = 36
PARTITIONS = 4


class Client:
    """Clients of one broker, stopped with the test; topics and groups of its own names."""

    def __init__(self, url: str, exits: AsyncExitStack) -> None:
        self.url = url
        self._exits = exits

    async def admin(self) -> AIOKafkaAdminClient:
        admin = AIOKafkaAdminClient(**client_options_at(self.url))
        await admin.start()
        self._exits.push_async_callback(admin.close)
        return admin

    async def topic(self, **configs: str) -> str:
        name = f"t_{uuid4().hex}"
        admin = await self.admin()
        await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=configs)])
        return name

    async def producer(self, **options: object) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(**client_options_at(self.url), acks="all", **options)
        return await self._exits.enter_async_context(producer)

    async def consumer(self, *topics: str, **options: object) -> AIOKafkaConsumer:
        defaults = {"auto_offset_reset": "earliest", "enable_auto_commit": False}
        consumer = AIOKafkaConsumer(*topics, **client_options_at(self.url), **defaults | options)
        return await self._exits.enter_async_context(consumer)

    async def reader(self, partition: TopicPartition, **options: object) -> AIOKafkaConsumer:
        consumer = await self.consumer(**options)
        consumer.assign([partition])
        return consumer

    async def member(self, topic: str, group: str) -> AIOKafkaConsumer:
        timing = {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 200}
        return await self.consumer(topic, group_id=group, **timing)


@pytest.fixture(params=["our_broker", pytest.param("apache_kafka", marks=pytest.mark.kafka)])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    if request.param == "our_broker":
        url = request.getfixturevalue("stack").urls["kafka"]
    else:
        url = request.getfixturevalue("apache_kafka").url
    async with AsyncExitStack() as exits, asyncio.timeout(60):
        yield Client(url, exits)


async def _send(client: Client, partition: TopicPartition, *values: bytes, **options: object) -> None:
    """Each value in a batch of its own."""
    producer = await client.producer(**options)
    for value in values:
        await producer.send_and_wait(partition.topic, value, partition=partition.partition)


async def _read(consumer: AIOKafkaConsumer, count: int) -> list[bytes]:
    return [(await consumer.getone()).value for _ in range(count)]


async def test_a_record_comes_back_as_it_was_sent(client: Client) -> None:
    topic = await client.topic()
    producer = await client.producer()
    sent = await producer.send_and_wait(
        topic, b"value", key=b"key", partition=2, timestamp_ms=1_700_000_000_123, headers=[("kind", b"\x00")]
    )
    record = await (await client.reader(TopicPartition(topic, 2))).getone()
    assert (record.key, record.value, record.headers) == (b"key", b"value", (("kind", b"\x00"),))
    assert (record.offset, record.timestamp) == (sent.offset, 1_700_000_000_123) == (0, 1_700_000_000_123)


async def test_tombstones_and_empty_values_are_told_apart(client: Client) -> None:
    topic = await client.topic()
    producer = await client.producer()
    for value in (None, b""):
        await producer.send_and_wait(topic, value, key=b"key", partition=0)
    assert await _read(await client.reader(TopicPartition(topic, 0)), 2) == [None, b""]


@pytest.mark.parametrize("compression", [None, "lz4", "gzip"])
async def test_a_partition_keeps_its_order(client: Client, compression: str | None) -> None:
    topic = await client.topic()
    partition = TopicPartition(topic, 1)
    values = [b"%d" % number for number in range(500)]
    producer = await client.producer(linger_ms=5, compression_type=compression)
    sent = await asyncio.gather(*[await producer.send(topic, value, partition=1) for value in values])
    assert [one.offset for one in sent] == list(range(500))
    assert await _read(await client.reader(partition), 500) == values


async def test_reading_can_begin_inside_a_batch(client: Client) -> None:
    topic = await client.topic()
    partition = TopicPartition(topic, 0)
    producer = await client.producer(linger_ms=50)
    await asyncio.gather(*[await producer.send(topic, b"%d" % number, partition=0) for number in range(20)])
    consumer = await client.reader(partition)
    consumer.seek(partition, 13)
    assert await _read(consumer, 7) == [b"%d" % number for number in range(13, 20)]


async def test_offsets_tell_the_first_and_the_next_record(client: Client) -> None:
    topic = await client.topic()
    written, empty = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await _send(client, written, b"1", b"2", b"3")
    consumer = await client.consumer()
    assert await consumer.beginning_offsets([written, empty]) == {written: 0, empty: 0}
    assert await consumer.end_offsets([written, empty]) == {written: 3, empty: 0}


async def test_offsets_are_found_by_time(client: Client) -> None:
    topic = await client.topic()
    partition = TopicPartition(topic, 0)
    producer = await client.producer(linger_ms=50)
    sent = [await producer.send(topic, b"", partition=0, timestamp_ms=stamp) for stamp in (1000, 2000, 3000)]
    await asyncio.gather(*sent)
    consumer = await client.consumer()
    assert await consumer.offsets_for_times({partition: 1500}) == {partition: OffsetAndTimestamp(1, 2000)}
    assert await consumer.offsets_for_times({partition: 3001}) == {partition: None}


async def test_a_waiting_reader_is_woken_by_a_record(client: Client) -> None:
    partition = TopicPartition(await client.topic(), 3)
    # It would wait for longer than the test may take.
    consumer = await client.reader(partition, fetch_max_wait_ms=100_000, request_timeout_ms=200_000)
    reading = asyncio.create_task(consumer.getone())
    await eventually(lambda: partition in consumer.assignment())
    await _send(client, partition, b"woken")
    assert (await reading).value == b"woken"


async def test_a_reader_that_gathers_gets_the_records_of_a_moment_together(client: Client) -> None:
    topic = await client.topic()
    partitions = first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    consumer = await client.consumer(
        fetch_min_bytes=10_000, fetch_max_wait_ms=100_000, request_timeout_ms=200_000
    )
    # a fetch asks only for the partitions whose leader is known by then
    await consumer.end_offsets(partitions)
    consumer.assign(partitions)
    for partition in partitions:
        consumer.seek(partition, 0)
    reading = asyncio.create_task(consumer.getmany(timeout_ms=100_000))
    await _send(client, first, b"little")
    assert not reading.done()
    await _send(client, second, b"x" * 10_000)
    assert set(await reading) == {first, second}


async def test_an_offset_that_does_not_exist_is_refused(client: Client) -> None:
    partition = TopicPartition(await client.topic(), 0)
    await _send(client, partition, b"only")
    consumer = await client.reader(partition, auto_offset_reset="none")
    consumer.seek(partition, 5)
    with pytest.raises(OffsetOutOfRangeError):
        await consumer.getone()


async def test_deleted_records_move_the_beginning(client: Client) -> None:
    partition = TopicPartition(await client.topic(), 0)
    await _send(client, partition, b"1", b"2", b"3")
    admin = await client.admin()
    await admin.delete_records({partition: RecordsToDelete(before_offset=2)})
    consumer = await client.reader(partition)
    assert await consumer.beginning_offsets([partition]) == {partition: 2}
    assert await _read(consumer, 1) == [b"3"]


async def test_a_batch_above_the_topics_limit_is_refused(client: Client) -> None:
    topic = await client.topic(**{"max.message.bytes": "2000"})
    producer = await client.producer()
    await producer.send_and_wait(topic, b"x" * 1500, partition=0)
    with pytest.raises(MessageSizeTooLargeError):
        await producer.send_and_wait(topic, b"x" * 2500, partition=0)


async def test_topics_are_made_once_and_can_be_deleted(client: Client) -> None:
    topic = await client.topic()
    admin = await client.admin()
    answer = await admin.create_topics([NewTopic(topic, 1, 1)])
    assert [error[:2] for error in answer.topic_errors] == [(topic, TOPIC_EXISTS)]
    (described,) = await admin.describe_topics([topic])
    assert sorted(one["partition"] for one in described["partitions"]) == list(range(PARTITIONS))
    await admin.delete_topics([topic])

    async def gone() -> bool:
        return topic not in await admin.list_topics()

    await eventually(gone)


@pytest.mark.parametrize(
    "wrong", [NewTopic("no spaces", 1, 1), NewTopic("t_copies", 1, 3)], ids=["name", "copies"]
)
async def test_an_impossible_topic_is_refused(client: Client, wrong: NewTopic) -> None:
    answer = await (await client.admin()).create_topics([wrong])
    ((_, error, *_),) = answer.topic_errors
    assert error != 0


async def test_the_members_of_a_group_share_the_partitions(client: Client) -> None:
    topic, group = await client.topic(), f"g_{uuid4().hex}"
    first, second = await client.member(topic, group), await client.member(topic, group)

    async def shared() -> bool:
        await asyncio.gather(first.getmany(timeout_ms=50), second.getmany(timeout_ms=50))
        return len(first.assignment()) == len(second.assignment()) == PARTITIONS // 2

    await eventually(shared)
    assert first.assignment() | second.assignment() == {TopicPartition(topic, n) for n in range(PARTITIONS)}


async def test_what_a_leaving_member_read_goes_to_those_who_stay(client: Client) -> None:
    topic, group = await client.topic(), f"g_{uuid4().hex}"
    staying, leaving = await client.member(topic, group), await client.member(topic, group)
    await eventually(lambda: len(staying.assignment()) == len(leaving.assignment()) == PARTITIONS // 2)
    await leaving.stop()
    await eventually(lambda: len(staying.assignment()) == PARTITIONS)


async def test_a_group_goes_on_where_it_committed(client: Client) -> None:
    topic, group = await client.topic(), f"g_{uuid4().hex}"
    partition = TopicPartition(topic, 0)
    await _send(client, partition, b"1", b"2", b"3")
    first = await client.member(topic, group)
    assert await _read(first, 2) == [b"1", b"2"]
    await first.commit({partition: OffsetAndMetadata(2, "note")})
    await first.stop()
    second = await client.member(topic, group)
    assert await second.committed(partition) == 2
    assert await second.committed(TopicPartition(topic, 1)) is None
    assert await _read(second, 1) == [b"3"]


async def test_the_groups_can_be_listed_and_described(client: Client) -> None:
    topic, group = await client.topic(), f"g_{uuid4().hex}"
    member = await client.member(topic, group)
    await eventually(lambda: len(member.assignment()) == PARTITIONS)
    admin = await client.admin()
    assert (group, "consumer") in await admin.list_consumer_groups()
    (answer,) = await admin.describe_consumer_groups([group])
    ((_, name, state, kind, *_),) = answer.groups
    assert (name, state, kind) == (group, "Stable", "consumer")
