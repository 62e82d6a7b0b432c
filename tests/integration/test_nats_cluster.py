"""The candle stream on three NATS servers, of which one goes away."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.api import StreamInfo

from app.candles.batch import MINUTE_MS
from app.errors import ServerError
from app.local.servers.ports import free_port
from app.settings import Settings
from app.settings.access import NatsAccess
from app.wire.nats.publish import candle_publisher
from app.wire.nats.pull import CandlePull
from app.wire.nats.stream import DURABLE, connect, ensure_consumer, ensure_stream, stream_name
from tests.support.candle_batches import Candle, batch_of
from tests.support.eventually import eventually
from tests.support.servers import settings_for

SERVERS = 3
PROGRAM = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"
FIRST_MINUTE = 1_700_000_040_000 // MINUTE_MS


@dataclass
class Cluster:
    """Three servers, each a process. The URL is that of the first, which tells clients of the others."""

    directory: Path
    ports: list[int] = field(default_factory=lambda: [free_port() for _ in range(SERVERS)])
    routes: list[int] = field(default_factory=lambda: [free_port() for _ in range(SERVERS)])
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.ports[0]}"

    def start(self, number: int) -> None:
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in self.routes)
        configuration = self.directory / f"{number}.conf"
        configuration.write_text(
            f"server_name: s{number}\nlisten: 127.0.0.1:{self.ports[number]}\n"
            f"jetstream {{ store_dir: '{self.directory / str(number)}' }}\n"
            f"cluster {{ name: test, listen: 127.0.0.1:{self.routes[number]}, routes: [{routes}] }}\n"
        )
        self.running[number] = subprocess.Popen(
            [PROGRAM, "--config", configuration, "--log", self.directory / f"{number}.log"]
        )

    def kill(self, number: int) -> None:
        process = self.running.pop(number)
        process.kill()
        process.wait()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    found = Cluster(tmp_path)
    for number in range(SERVERS):
        found.start(number)
    yield found
    for number in list(found.running):
        found.kill(number)


@pytest.fixture
def access(cluster: Cluster) -> NatsAccess:
    return settings_for(
        {}, nats_url=cluster.url, kafka_url="-", redis_url="-", postgres_url="-", nats_replicas=SERVERS
    ).nats()


async def connected(exits: AsyncExitStack, access: NatsAccess, cluster: Cluster) -> JetStreamContext:
    client = await nats.connect(cluster.url, max_reconnect_attempts=-1, reconnect_time_wait=0.2)
    exits.push_async_callback(client.close)
    return client.jetstream(timeout=2)


async def info(jetstream: JetStreamContext, access: NatsAccess) -> StreamInfo | None:
    """None while there is no leader."""
    try:
        return await jetstream.stream_info(stream_name(access.namespace))
    except (Error, TimeoutError):
        return None


async def test_stream_and_consumer_have_a_copy_on_every_server(cluster: Cluster, access: NatsAccess):
    async with AsyncExitStack() as exits:
        client = await connect(access.url, "test")
        exits.push_async_callback(client.close)
        pull = CandlePull(client, access.namespace, capacity=10, frame_max_delay_ms=10, replicas=3)
        await pull.open()
        jetstream = client.jetstream()
        stream = await jetstream.stream_info(stream_name(access.namespace))
        consumer = await jetstream.consumer_info(stream_name(access.namespace), DURABLE)
        assert stream.config.num_replicas == 3
        assert consumer.cluster is not None
        assert len(consumer.cluster.replicas or ()) == SERVERS - 1


async def test_a_stream_that_has_one_copy_gets_the_others_with_its_consumer(
    cluster: Cluster, access: NatsAccess
):
    async with AsyncExitStack() as exits:
        jetstream = await connected(exits, access, cluster)
        client = await connect(access.url, "test")
        exits.push_async_callback(client.close)
        async with candle_publisher(NatsAccess(access.url, access.namespace), "one copy"):
            await ensure_consumer(client, access.namespace)
        await ensure_stream(client, access.namespace, 3)
        # another client that knows of one copy takes none away
        await ensure_stream(client, access.namespace)
        found = await info(jetstream, access)
        assert found is not None
        assert found.config.num_replicas == 3

        async def other_copies() -> bool:
            consumer = await jetstream.consumer_info(stream_name(access.namespace), DURABLE)
            return consumer.cluster is not None and len(consumer.cluster.replicas or ()) == SERVERS - 1

        await eventually(other_copies)


async def test_candles_arrive_while_any_server_of_three_is_away(cluster: Cluster, access: NatsAccess):
    async with AsyncExitStack() as exits:
        publisher = await exits.enter_async_context(candle_publisher(access, "test"))
        jetstream = await connected(exits, access, cluster)
        found = await info(jetstream, access)
        assert found is not None
        assert found.cluster is not None
        leader = int(str(found.cluster.leader).removeprefix("s"))
        cluster.kill(leader)
        await publisher.publish(batch_of([Candle("BTCUSDT", FIRST_MINUTE, 1.0)]))
        await asyncio.wait_for(publisher.flush(), 60)


async def is_led_by_another(client: Client, stream: str) -> bool:
    """Whether another server than the first leads the stream; asks the first to step down."""
    try:
        found = await client.jetstream(timeout=2).stream_info(stream)
        if found.cluster is not None and found.cluster.leader == "s0":
            await client.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{stream}", timeout=2)
            return False
    except (Error, TimeoutError):
        return False
    return found.cluster is not None and bool(found.cluster.leader)


async def test_a_feed_that_starts_while_jetstream_has_no_majority_waits_for_it(
    cluster: Cluster, access: NatsAccess
):
    async with AsyncExitStack() as exits:
        await exits.enter_async_context(candle_publisher(access, "before"))
        client = await connect(access.url, "test")
        exits.push_async_callback(client.close)
        # a leader that is left alone answers for some seconds
        await eventually(partial(is_led_by_another, client, stream_name(access.namespace)), 30)
        for number in (1, 2):
            cluster.kill(number)
        opening = asyncio.create_task(
            exits.enter_async_context(candle_publisher(access, "feed", stop=asyncio.Event()))
        )
        done, _ = await asyncio.wait({opening}, timeout=5)
        assert not done, opening.exception()
        for number in (1, 2):
            cluster.start(number)
        publisher = await asyncio.wait_for(opening, 60)
        await publisher.publish(batch_of([Candle("BTCUSDT", FIRST_MINUTE, 1.0)]))
        await asyncio.wait_for(publisher.flush(), 60)


async def test_copies_that_a_single_server_cannot_keep_are_told_with_the_setting(settings: Settings):
    alone = NatsAccess(settings.server_urls().nats, settings.names(), replicas=3)
    with pytest.raises(ServerError, match="SCREENER_NATS_REPLICAS"):
        async with candle_publisher(alone, "test"):
            pass
