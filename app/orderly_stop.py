"""Stopping in the order of the flow, so that nothing is left half way when an in-memory broker ends with us."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import structlog

from app.barrier import BarrierReports
from app.cooldown import connect_redis
from app.ingress.pull import connect
from app.kafka import kafka_producer
from app.replay.drain import STAGES, barrier_passed, nats_drained, send_barrier
from app.settings import Settings
from app.supervisor import RoleProcesses
from app.webhooks.service import STAGE as WEBHOOKS

_DRAIN_TIMEOUT_S = 10.0
log = structlog.get_logger("drain")


async def stop_in_order(roles: RoleProcesses, settings: Settings) -> None:
    """Source first; then all that is on its way reaches the database; then the rest. After 10 s, or with a server
    away, it goes on regardless and says so. Cancel `roles.watch` first."""
    await roles.stop_role("feed")
    try:
        async with asyncio.timeout(_DRAIN_TIMEOUT_S):
            await _drain(roles, settings)
    except Exception as error:
        # whatever keeps it from draining, the processes must still be stopped
        log.warning("not_drained", error=repr(error))
    await roles.stop()


async def _drain(roles: RoleProcesses, settings: Settings) -> None:
    client = await connect(settings, "drain")
    try:
        await nats_drained(client, settings)
    finally:
        await client.close()
    await roles.stop_role("bridge")
    redis = connect_redis(settings.server_urls().redis)
    try:
        async with kafka_producer(settings) as producer:
            identifier = f"stop-{uuid4().hex}"
            await send_barrier(producer, settings, identifier)
            # what alerts a broker of ours still holds must be in the outbox
            stages = (*STAGES, WEBHOOKS) if "webhooks" in roles.roles else STAGES
            await barrier_passed(BarrierReports(redis, settings), settings, identifier, stages)
    finally:
        await redis.aclose()
