"""Counting the candles of a replay that its pipeline rejected, from the dead letters of its namespace."""

from __future__ import annotations

from collections import Counter

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.settings.access import KafkaAccess
from app.wire.kafka import client_options
from app.wire.topics import Topics

_READERS_OF_CANDLES = ("bridge", "collector")


async def count_refused(kafka: KafkaAccess) -> Counter[str]:
    """Return how many candles, or messages that were not candles, the first stages rejected, by reason. Call it once
    the candles have passed these stages."""
    topic = TopicPartition(Topics.of(kafka.namespace).dead_letters, 0)
    consumer = AIOKafkaConsumer(
        **client_options(kafka), enable_auto_commit=False, max_partition_fetch_bytes=8 * 1024 * 1024
    )
    await consumer.start()
    try:
        consumer.assign([topic])
        end = (await consumer.end_offsets([topic]))[topic]
        await consumer.seek_to_beginning(topic)
        refused: Counter[str] = Counter()
        while await consumer.position(topic) < end:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    letter = orjson.loads(record.value)
                    if letter["stage"] in _READERS_OF_CANDLES:
                        refused.update(letter["reasons"])
        return refused
    finally:
        await consumer.stop()
