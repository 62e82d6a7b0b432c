"""When all of a replay has passed through: NATS is drained, and a barrier has reached every end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import nats.errors
from aiokafka import AIOKafkaProducer
from nats.aio.client import Client
from redis.exceptions import RedisError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from app.barrier import Barrier, BarrierReports
from app.ingress.pull import DURABLE, stream_name
from app.settings import Settings
from app.topics import Topics

STAGES = ("collector", "calculator", "alerts", "sinks-candles", "sinks-metrics", "sinks-alerts")
"""Who reports a barrier, once per partition, in the order it reaches them."""
_POLL_S = 0.02

Reports = Mapping[tuple[str, int], Mapping[str, Any]]


async def nats_behind(client: Client, settings: Settings) -> int:
    """Messages of the stream that the bridge has not acknowledged: those are not yet in Kafka.

    Waits out a NATS that is away for up to a minute."""
    jetstream = client.jetstream()
    async for attempt in AsyncRetrying(
        wait=wait_exponential_jitter(multiplier=0.1, max=2.0),
        stop=stop_after_delay(60),
        retry=retry_if_exception_type((nats.errors.Error, OSError, TimeoutError)),
        reraise=True,
    ):
        with attempt:
            stream = await jetstream.stream_info(stream_name(settings))
            consumer = await jetstream.consumer_info(stream_name(settings), DURABLE)
    floor = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
    return max(consumer.num_pending or 0, consumer.num_ack_pending or 0, stream.state.last_seq - floor)


async def nats_drained(client: Client, settings: Settings, to_messages: int = 0) -> None:
    """Returns when at most so many messages are not acknowledged; with 0, all is in Kafka."""
    while await nats_behind(client, settings) > to_messages:
        await asyncio.sleep(_POLL_S)


async def send_barrier(producer: AIOKafkaProducer, settings: Settings, identifier: str) -> None:
    """One barrier into each ingress partition, behind everything that is there."""
    for partition in range(settings.partitions):
        await producer.send_and_wait(
            Topics.of(settings).ingress, Barrier(identifier, partition).encode(), partition=partition
        )


async def barrier_passed(
    reports: BarrierReports, settings: Settings, identifier: str, stages: Sequence[str] = STAGES
) -> Reports:
    """Returns the reports once every stage has one for every partition."""
    expected = {(stage, partition) for stage in stages for partition in range(settings.partitions)}
    while True:
        async for attempt in AsyncRetrying(
            wait=wait_exponential_jitter(multiplier=0.1, max=2.0),
            stop=stop_after_delay(60),
            retry=retry_if_exception_type((RedisError, OSError)),
            reraise=True,
        ):
            with attempt:
                found = await reports.read(identifier)
        if expected <= found.keys():
            return found
        await asyncio.sleep(_POLL_S)
