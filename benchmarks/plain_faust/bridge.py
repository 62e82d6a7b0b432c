"""Copies messages from NATS to Kafka, one record per message.

`python -m benchmarks.plain_faust.bridge NATS_URL STREAM SUBJECTS KAFKA_URL`
"""

from __future__ import annotations

import asyncio
import sys

import nats
import orjson
import uvloop
from aiokafka import AIOKafkaProducer

from app.wire.kafka import client_options_at

_BATCH = 500


async def run(nats_url: str, stream: str, subjects: str, kafka_url: str) -> None:
    client = await nats.connect(nats_url)
    producer = AIOKafkaProducer(**client_options_at(kafka_url), acks="all", linger_ms=2)
    await producer.start()
    subscription = await client.jetstream().pull_subscribe(subjects, durable="plain-bridge", stream=stream)
    while True:
        try:
            messages = await subscription.fetch(_BATCH, timeout=1)
        except TimeoutError:
            continue
        sent = []
        for message in messages:
            candle = orjson.loads(message.data)
            sent.append(
                await producer.send(
                    "plain-ingress",
                    message.data,
                    key=candle["symbol"].encode(),
                    timestamp_ms=candle["open_time"],
                )
            )
        await asyncio.gather(*sent)
        for message in messages:
            await message.ack()


if __name__ == "__main__":
    uvloop.run(run(*sys.argv[1:5]))
