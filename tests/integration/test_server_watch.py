"""Embedded servers that end: started again with their data, given up when that is hopeless."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import redis
from nats.errors import Error as NatsError

import app.cli.server_watch
import app.process.children.restarts
from app.cli.server_watch import ServerWatch
from app.errors import ServerDied
from app.local.servers.embedded import EmbeddedStack
from app.process.children.supervisor import RoleProcesses, role_environ
from app.wire.nats.stream import connect, ensure_stream
from app.wire.retry import Backoff
from tests.support.eventually import eventually
from tests.support.servers import settings_for


@asynccontextmanager
async def watched(directory: Path, server: str) -> AsyncIterator[tuple[EmbeddedStack, asyncio.Task[None]]]:
    stack = await asyncio.to_thread(EmbeddedStack.start, directory, [server])
    urls = {"nats": "-", "redis": "-", "postgres": "-", "kafka": "-"} | stack.urls
    settings = settings_for(urls, namespace="", data_dir=directory)
    roles = RoleProcesses(role_environ(settings), directory, ())
    watch = ServerWatch(settings.servers(), settings.alert_mode, stack, roles)
    watching = asyncio.create_task(watch.watch())
    try:
        yield stack, watching
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError, ServerDied):
            await watching
        await asyncio.to_thread(stack.stop)


async def test_a_killed_server_answers_again_at_its_url_with_its_data(tmp_path: Path) -> None:
    async with watched(tmp_path, "redis") as (stack, watching):
        url, first = stack.urls["redis"], stack.processes["redis"].pid
        with redis.Redis.from_url(url) as client:
            client.set("kept", "value")
        stack.processes["redis"].kill()
        await eventually(lambda: stack.processes["redis"].pid != first and stack.processes["redis"].running)

        def kept() -> bool:
            with suppress(redis.RedisError), redis.Redis.from_url(url) as client:
                return client.get("kept") == b"value"
            return False

        await eventually(kept)
        assert stack.urls["redis"] == url
        assert not watching.done()


async def test_a_server_that_ends_at_every_start_is_given_up_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.process.children.restarts, "_BACKOFF", Backoff(0.005, 0.01))
    async with watched(tmp_path, "redis") as (stack, watching):
        with redis.Redis.from_url(stack.urls["redis"]) as client:
            client.set("kept", "value")
        process = stack.processes["redis"]
        (tmp_path / "redis" / "appendonlydir" / "appendonly.aof.manifest").write_text("damaged")
        process.kill()
        with pytest.raises(ServerDied, match=r"(?s)redis.log.*AOF manifest"):
            await asyncio.wait_for(watching, 60)


async def test_a_nats_that_stores_nothing_after_its_disk_was_full_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.cli.server_watch, "_STORED_EVERY_S", 0.1)
    async with watched(tmp_path, "nats") as (stack, watching):
        settings = settings_for({"redis": "-", "postgres": "-", "kafka": "-"} | stack.urls, namespace="")
        client = await connect(settings.nats().url, "test")
        await ensure_stream(client, settings.names())
        process = stack.processes["nats"]
        pid = process.pid
        assert pid is not None
        whole = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        # as a full disk does: files may not grow, whoever we are
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, whole[1]))

        async def stores() -> bool:
            with suppress(NatsError, TimeoutError):
                await client.jetstream(timeout=0.5).publish("candles.1m.AUSDT", b"{}")
                return True
            return False

        async def refuses() -> bool:
            return not await stores()

        await eventually(refuses)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, whole)
        assert not await stores(), "room alone mends nothing"
        await eventually(stores, within_s=60)
        assert stack.processes["nats"].pid != pid
        assert not watching.done()
        await client.close()
