"""The roles of the screener as processes on running servers, for end-to-end benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar
from uuid import uuid4

import aiohttp
from aiokafka import AIOKafkaProducer
from nats.aio.client import Client

from app.database.migrate import migrate
from app.process.children.supervisor import RoleProcesses, role_environ
from app.process.drain import barrier_passed, nats_drained, send_barrier
from app.settings import Settings
from app.wire.barrier import BarrierReports
from app.wire.kafka import ensure_topics, kafka_producer
from app.wire.nats.stream import connect
from app.wire.redis import connect_redis

ROLES = ("bridge", "all", "sinks", "sidecar")
READY_TIMEOUT_S = 60.0
_WATCH_EVERY_S = 0.2

T = TypeVar("T")


async def with_roles(settings: Settings, play: Callable[[RoleProcesses], Awaitable[T]]) -> T:
    """Run `play` once the sidecar is ready, and return its result. Raises RuntimeError when a role ends."""
    async with AsyncExitStack() as exits:
        await asyncio.to_thread(migrate, settings.postgres())
        await ensure_topics(settings.kafka())
        roles = RoleProcesses(role_environ(settings), settings.data_dir / "logs", ROLES)
        exits.push_async_callback(roles.stop)
        roles.start()
        playing = asyncio.create_task(_play(settings, roles, play))
        exits.callback(playing.cancel)
        while not (await asyncio.wait({playing}, timeout=_WATCH_EVERY_S))[0]:
            for process in roles.processes.values():
                if process.poll() is not None:
                    raise RuntimeError(process.describe_end())
        return playing.result()


async def _play(settings: Settings, roles: RoleProcesses, play: Callable[[RoleProcesses], Awaitable[T]]) -> T:
    await _ready(f"http://127.0.0.1:{settings.sidecar_port}/health/ready")
    return await play(roles)


async def _ready(url: str) -> None:
    async with asyncio.timeout(READY_TIMEOUT_S), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Settled:
    """Waits until every stage has processed everything that was published."""

    settings: Settings
    client: Client
    producer: AIOKafkaProducer
    reports: BarrierReports

    async def wait(self) -> None:
        await nats_drained(self.client, self.settings.names())
        identifier = uuid4().hex
        await send_barrier(self.producer, self.settings.kafka(), identifier)
        await barrier_passed(self.reports, self.settings.partitions, identifier)


@asynccontextmanager
async def settling(settings: Settings) -> AsyncIterator[Settled]:
    async with AsyncExitStack() as exits:
        producer = await exits.enter_async_context(kafka_producer(settings.kafka()))
        redis = connect_redis(settings.server_urls().redis)
        exits.push_async_callback(redis.aclose)
        client = await connect(settings.nats().url, "benchmark-drain")
        exits.push_async_callback(client.close)
        yield Settled(settings, client, producer, BarrierReports(redis, settings.names()))
