"""`screener up`, its processes killed, stopped and cut off at random; `tests.chaos.run` is the long form."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psutil
import pytest

from tests.chaos.faults import sever
from tests.chaos.trial import Plan, trial
from tests.support.eventually import eventually

_CLIENT = """
import socket, sys, time
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.sendall(b"here")
time.sleep(600)
"""


async def test_the_peer_of_a_severed_process_sees_the_end_of_its_connection() -> None:
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readexactly(4))
        received.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", _CLIENT, str(port))
    try:
        await eventually(lambda: received == [b"here"])
        assert sever(psutil.Process(client.pid)) == 1
        await eventually(lambda: received == [b"here", b""])
        assert client.returncode is None
        assert sever(psutil.Process(client.pid)) == 0
    finally:
        client.kill()
        await client.wait()
        server.close()
        await server.wait_closed()


@pytest.mark.timeout(900)  # reason: two starts of everything on a busy machine, and what is late
async def test_alerts_and_candles_are_those_of_an_undisturbed_run_whatever_was_killed_stopped_or_cut_off(
    tmp_path: Path,
) -> None:
    plan = Plan(seconds=60.0, seed=11, stopped_s=8.0, pauses_s=(3.0, 7.0))
    outcome = await trial(tmp_path, plan, print)
    assert outcome.differences() == {}
    assert {name.split()[0] for name in outcome.faults} == {"kill", "stop", "sever"}
    assert outcome.severed > 0
