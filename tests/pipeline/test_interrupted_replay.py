"""Ctrl-C ends a replay in order, whatever it does: processes, files, and what it made on the servers are gone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from app.database.connection import connection_url
from app.process.children.child import wait_ended
from app.settings import Settings
from tests.pipeline.test_replay_clean_up import names
from tests.support.eventually import eventually
from tests.support.processes import heed_ctrl_c
from tests.support.replays import REPOSITORY

pytestmark = pytest.mark.slow

MINUTES = 600
MINUTES_PER_S = 20
ENDED = (130, -signal.SIGINT)
"""Python ends by the signal itself where it came while Python compiled a text of its own; a shell tells both as 130."""
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname ~ '_replay_|^replay_'"


@contextmanager
def replaying(directory: Path, environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A `screener replay` of half a minute."""
    file = directory / "candles.csv"
    rows = [f"AUSDT,{1_700_000_040_000 + at * 60_000},1,2,1,2,10,15,3" for at in range(MINUTES)]
    file.write_text(
        "\n".join(("symbol,open_time_ms,open,high,low,close,volume,quote_volume,trades", *rows)) + "\n"
    )
    (directory / "temporary").mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "app", "replay", file, "--speed", str(MINUTES_PER_S * 60)],
        cwd=REPOSITORY, env=os.environ | environ | {"TMPDIR": str(directory / "temporary")},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=heed_ctrl_c,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


async def ends(process: subprocess.Popen[str], directory: Path) -> None:
    """It ends by Ctrl-C, says nothing of its inside, and leaves no process and no file."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    output, _ = await asyncio.wait_for(asyncio.to_thread(process.communicate), 60)
    assert process.returncode in ENDED, output
    assert "Traceback" not in output
    assert wait_ended(children, 10) == []
    assert os.listdir(directory / "temporary") == []


async def candles_stored(settings: Settings) -> bool:
    """Whether a namespace of a replay has candles."""
    async with await psycopg.AsyncConnection.connect(connection_url(settings.postgres())) as connection:
        for (schema,) in await (await connection.execute(_SCHEMAS)).fetchall():
            found = await connection.execute("SELECT to_regclass(%s)", (f"{schema}.candles_1m",))
            if await found.fetchone() != (None,):
                rows = await connection.execute(f"SELECT EXISTS (SELECT FROM {schema}.candles_1m)")
                return await rows.fetchone() == (True,)
    return False


@pytest.mark.parametrize("point", ["a schema is there", "roles start", "candles are stored"])
async def test_on_given_servers_its_namespace_goes_with_it(
    settings: Settings, tmp_path: Path, point: str
) -> None:
    before = await names(settings)

    async def has_schema() -> bool:
        return any("replay_" in name for name in await names(settings) - before)

    with replaying(tmp_path, settings.servers_environ()) as process:
        points: dict[str, Callable[[], bool | Awaitable[bool]]] = {
            "a schema is there": has_schema,
            "roles start": lambda: len(psutil.Process(process.pid).children()) >= 3,
            "candles are stored": lambda: candles_stored(settings),
        }
        await eventually(points[point], 90, of_work=True)
        await ends(process, tmp_path)
    assert await names(settings) == before


@pytest.mark.parametrize("servers", [1, 4])
async def test_its_own_servers_end_with_it_however_many_have_started(tmp_path: Path, servers: int) -> None:
    with replaying(tmp_path, {}) as process:
        ours = psutil.Process(process.pid)
        await eventually(lambda: len(ours.children()) >= servers, 60, of_work=True)
        await ends(process, tmp_path)
