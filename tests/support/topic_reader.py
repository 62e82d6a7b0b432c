"""Reads all records of a topic without a consumer group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from app.settings import Settings
from app.wire.frames import decode_candles
from app.wire.kafka import client_options
from app.wire.topics import Topics
from tests.support.candle_batches import Candle, rows_of
from tests.support.eventually import eventually


async def read_until(
    settings: Settings,
    topic: str,
    enough: Callable[[list[ConsumerRecord]], bool],
    *,
    partitions: int = 1,
    within_s: float = 30.0,
) -> list[ConsumerRecord]:
    """Return all records of the topic from its beginning, as soon as `enough` returns true for them."""
    consumer = AIOKafkaConsumer(**client_options(settings.kafka()), enable_auto_commit=False)
    await consumer.start()
    try:
        assigned = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(assigned)
        await consumer.seek_to_beginning(*assigned)
        found: list[ConsumerRecord] = []

        async def read_more() -> bool:
            for records in (await consumer.getmany(timeout_ms=50)).values():
                found.extend(records)
            return enough(found)

        await eventually(read_more, within_s)
        return found
    finally:
        await consumer.stop()


async def ingress_candles(settings: Settings, at_least: int) -> list[tuple[int, Candle]]:
    """Return (partition, candle) of the frames in [ingress], once there are `at_least` different candles."""

    def rows(records: list[ConsumerRecord]) -> list[tuple[int, Candle]]:
        return [
            (record.partition, row) for record in records for row in rows_of(decode_candles(record.value)[0])
        ]

    def enough(records: list[ConsumerRecord]) -> bool:
        return len({(row.symbol, row.minute, row.price) for _, row in rows(records)}) >= at_least

    topic = Topics.of(settings.names()).ingress
    return rows(await read_until(settings, topic, enough, partitions=settings.partitions))


async def dead_letters(settings: Settings, at_least: int) -> list[dict[str, Any]]:
    topic = Topics.of(settings.names()).dead_letters
    records = await read_until(settings, topic, lambda found: len(found) >= at_least)
    return [orjson.loads(record.value) for record in records]
