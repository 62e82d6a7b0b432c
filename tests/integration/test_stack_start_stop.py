"""The embedded stack: it starts, answers, keeps its data, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nats
import psutil
import psycopg
import pytest
import redis

from app.errors import PortTaken, ServerDied, ServerError
from app.local.servers.embedded import ALL_SERVERS, EmbeddedStack
from app.local.servers.orphans import end_orphans, record
from app.local.servers.ports import free_port
from app.local.servers.running import holder_of
from app.process.children.child import ChildProcess, stop_all, wait_ended
from app.process.health.probes import PROBES
from app.settings import Settings
from tests.support.eventually import eventually


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "servers"


async def test_every_server_answers_in_its_own_protocol(stack: EmbeddedStack) -> None:
    assert set(stack.urls) == set(ALL_SERVERS)
    for server, url in stack.urls.items():
        await PROBES[server](url)


def test_its_urls_are_settings(settings: Settings, stack: EmbeddedStack) -> None:
    environ = {f"SCREENER_{server.upper()}_URL": url for server, url in stack.urls.items()}
    assert settings.servers_environ() == Settings.load(environ).servers_environ()
    assert Settings.load(settings.servers_environ()) == Settings.load(environ)


def test_stopping_leaves_no_process(directory: Path) -> None:
    children_before = set(psutil.Process().children(recursive=True))
    with EmbeddedStack.start(directory) as stack:
        started = set(psutil.Process().children(recursive=True)) - children_before
        assert {process.pid for process in stack.processes.values()} <= {child.pid for child in started}
    assert wait_ended(started, 10) == []


async def test_nats_redis_and_postgres_keep_their_data_over_a_restart(directory: Path) -> None:
    servers = ("nats", "redis", "postgres")
    with EmbeddedStack.start(directory, servers) as stack:
        client = await nats.connect(stack.urls["nats"])
        await client.jetstream().add_stream(name="KEPT", subjects=["kept"])
        await client.jetstream().publish("kept", b"message")
        await client.close()
        with redis.Redis.from_url(stack.urls["redis"]) as cache:
            cache.set("kept", "value")
        with psycopg.connect(stack.urls["postgres"]) as database:
            database.execute("CREATE TABLE kept AS SELECT 42 AS answer")

    with EmbeddedStack.start(directory, servers) as stack:
        client = await nats.connect(stack.urls["nats"])
        assert (await client.jetstream().stream_info("KEPT")).state.messages == 1
        await client.close()
        with redis.Redis.from_url(stack.urls["redis"]) as cache:
            assert cache.get("kept") == b"value"
        with psycopg.connect(stack.urls["postgres"]) as database:
            assert database.execute("SELECT answer FROM kept").fetchone() == (42,)


@pytest.mark.parametrize("server", ALL_SERVERS)
async def test_a_killed_server_is_reported_with_its_end_and_its_log(server: str, directory: Path) -> None:
    with EmbeddedStack.start(directory, [server]) as stack:
        assert stack.faults() == ()
        pid = stack.processes[server].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        (fault,) = await eventually(stack.faults)
    assert isinstance(fault, ServerDied)
    assert "SIGKILL" in str(fault)
    assert f"{server}.log" in str(fault)
    assert f"SCREENER_{server.upper()}_URL" in str(fault)


def test_a_stopped_stack_reports_no_fault(directory: Path) -> None:
    stack = EmbeddedStack.start(directory, ["redis"])
    stack.stop()
    stack.stop()
    assert stack.faults() == ()


def test_two_stacks_in_one_directory_are_refused(directory: Path) -> None:
    refusal = pytest.raises(ServerError, match=rf"in use by process {os.getpid()}.*SCREENER_DATA_DIR")
    with EmbeddedStack.start(directory, ["redis"]), refusal:
        EmbeddedStack.start(directory, ["redis"])
    EmbeddedStack.start(directory, ["redis"]).stop()


def test_a_port_that_another_program_holds_is_named_with_the_way_out(directory: Path) -> None:
    with EmbeddedStack.start(directory / "first", ["nats"], ports={"nats": free_port()}) as first:
        port = int(first.urls["nats"].rpartition(":")[2])
        with pytest.raises(PortTaken) as caught:
            EmbeddedStack.start(directory / "second", ["redis", "nats"], ports={"nats": port})
    assert f":{port}" in str(caught.value)
    assert f"process {first.processes['nats'].pid} (nats-server)" in str(caught.value)
    assert "SCREENER_NATS_URL" in str(caught.value)


def test_a_failed_start_leaves_no_process(directory: Path) -> None:
    children_before = set(psutil.Process().children(recursive=True))
    (directory / "postgres" / "data").mkdir(parents=True)
    (directory / "postgres" / "owner_password").write_text("unused")
    with pytest.raises(ServerDied, match="PostgreSQL ended with exit code"):
        EmbeddedStack.start(directory)
    assert set(psutil.Process().children(recursive=True)) <= children_before


def test_the_lock_of_a_stack_that_is_gone_does_not_count(directory: Path) -> None:
    directory.mkdir()
    (directory / "stack.lock").write_text("1\n")
    EmbeddedStack.start(directory, ["redis"]).stop()


def test_servers_left_by_a_stack_that_is_gone_are_ended_first(directory: Path) -> None:
    directory.mkdir()
    left, unrelated = (
        ChildProcess(name, [sys.executable, "-c", "import time; time.sleep(600)"], directory / f"{name}.log")
        for name in ("left", "unrelated")
    )
    try:
        left.start()
        unrelated.start()
        record(directory, [left])
        EmbeddedStack.start(directory, ["redis"]).stop()
        assert not left.running
        assert unrelated.running
    finally:
        stop_all([left, unrelated])


@pytest.fixture
def zombie() -> Iterator[psutil.Process]:
    """A process that has ended, and whose parent has not read its exit code."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        found = psutil.Process(process.pid)
        while found.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        yield found


def test_a_zombie_holds_no_directory_and_is_not_waited_for(directory: Path, zombie: psutil.Process) -> None:
    directory.mkdir()
    (directory / "stack.lock").write_text(f"{zombie.pid}\n")
    assert holder_of(directory) is None
    (directory / "processes.json").write_text(json.dumps([[zombie.pid, zombie.create_time()]]))
    began = time.monotonic()
    end_orphans(directory, timeout_s=5.0)
    assert time.monotonic() - began < 5.0
    assert wait_ended([zombie], 0.0) == []
