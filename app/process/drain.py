"""Waiting, after a replay and before a stop, until all data on its way has reached the database: NATS is drained, and a
barrier has passed all stages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from uuid import uuid4

import structlog
from aiokafka import AIOKafkaProducer
from nats.aio.client import Client
from nats.js.api import ConsumerInfo, StreamInfo

from app.process.children.supervisor import RoleProcesses
from app.settings.access import AllServers, KafkaAccess, Namespace
from app.wire.barrier import BEHIND_MARKET, Barrier, BarrierReports, StageFacts
from app.wire.kafka import kafka_producer
from app.wire.nats.stream import DURABLE, connect, stream_name
from app.wire.redis import connect_redis
from app.wire.retry import OutageLog, retried
from app.wire.topics import Topics

STAGES = ("collector", "calculator", "alerts", "sinks-candles", "sinks-metrics", "sinks-alerts")
"""Consumers that report a barrier, once per partition, in the order it reaches them."""
MARKET = "market"
"""The stage that reports a barrier too, where it runs."""
_READERS_OF_ALERTS = ("sinks-alerts", "webhooks")
_POLL_S = 0.02
_GIVE_UP_S = 60.0
_STOP_WITHIN_S = 10.0

log = structlog.get_logger("drain")

Reports = Mapping[tuple[str, int], StageFacts]


async def nats_behind(client: Client, namespace: Namespace) -> int:
    """Count messages of the stream that the bridge has not acknowledged: they are not yet in Kafka.

    Waits out a NATS that is down for up to a minute."""
    jetstream = client.jetstream()

    async def look() -> tuple[StreamInfo, ConsumerInfo]:
        name = stream_name(namespace)
        return await jetstream.stream_info(name), await jetstream.consumer_info(name, DURABLE)

    stream, consumer = await retried(look, OutageLog(log, "drain_waits", server="nats"), give_up_s=_GIVE_UP_S)
    floor = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
    return max(consumer.num_pending or 0, consumer.num_ack_pending or 0, stream.state.last_seq - floor)


async def nats_drained(client: Client, namespace: Namespace, to_messages: int = 0) -> None:
    """Wait until at most `to_messages` messages are not acknowledged; with 0, all messages are in Kafka."""
    while await nats_behind(client, namespace) > to_messages:
        await asyncio.sleep(_POLL_S)


async def send_barrier(producer: AIOKafkaProducer, kafka: KafkaAccess, identifier: str) -> None:
    """Send one barrier into each ingress partition, behind all present records."""
    ingress = Topics.of(kafka.namespace).ingress
    for partition in range(kafka.partitions):
        await producer.send_and_wait(ingress, Barrier(identifier, partition).encode(), partition=partition)


async def barrier_passed(
    reports: BarrierReports, partitions: int, identifier: str, stages: Sequence[str] = STAGES
) -> Reports:
    """Return the reports once every stage has one for every partition. With the stage `market` among them, its alerts
    have reached the readers of [alerts] too."""
    found = await _reported(reports, partitions, identifier, stages)
    if MARKET in stages:
        readers = [stage for stage in stages if stage in _READERS_OF_ALERTS]
        await _reported(reports, partitions, identifier + BEHIND_MARKET, readers)
    return found


async def _reported(
    reports: BarrierReports, partitions: int, identifier: str, stages: Sequence[str]
) -> Reports:
    expected = {(stage, partition) for stage in stages for partition in range(partitions)}
    outage = OutageLog(log, "drain_waits", server="redis")
    while True:
        found = await retried(partial(reports.read, identifier), outage, give_up_s=_GIVE_UP_S)
        if expected <= found.keys():
            return found
        await asyncio.sleep(_POLL_S)


async def stop_in_order(roles: RoleProcesses, servers: AllServers) -> None:
    """Stop the feed; wait until all data on its way has reached the database, so that an embedded broker that ends with
    us loses nothing; then stop the other roles. If that takes 10 s, or a server is down, log it and continue.
    Cancel `roles.watch` first."""
    await roles.stop_role("feed")
    try:
        async with asyncio.timeout(_STOP_WITHIN_S):
            await _drain(roles, servers)
    except Exception as error:
        # if draining fails, the processes must still be stopped
        log.warning("not_drained", error=repr(error))
    await roles.stop()


async def _drain(roles: RoleProcesses, servers: AllServers) -> None:
    nats, kafka, redis = servers.nats, servers.kafka, servers.redis
    client = await connect(nats.url, "drain")
    try:
        await nats_drained(client, nats.namespace)
    finally:
        await client.close()
    await roles.stop_role("bridge")
    connection = connect_redis(redis.url)
    try:
        async with kafka_producer(kafka) as producer:
            identifier = f"stop-{uuid4().hex}"
            await send_barrier(producer, kafka, identifier)
            # alerts still in our broker must reach the outbox
            stages = (*STAGES, *(role for role in (MARKET, "webhooks") if role in roles.roles))
            await barrier_passed(
                BarrierReports(connection, redis.namespace), kafka.partitions, identifier, stages
            )
    finally:
        await connection.aclose()
