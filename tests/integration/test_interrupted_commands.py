"""Ctrl-C ends a command that waits for the database, with nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil
import pytest
from psycopg import AsyncConnection, sql

from app.backup.backup import back_up
from app.clock import SystemClock
from app.process.children.supervisor import role_environ
from app.settings import Settings
from tests.support.database import migrated
from tests.support.eventually import eventually
from tests.support.processes import heed_ctrl_c

CANDLES = """symbol,open_time_ms,open,high,low,close,volume,quote_volume,trades
AUSDT,1700000040000,1,2,1,2,10,15,3
"""
HOURS_OF_HASHING_BYTES = 4 * 1024**4
"""Of a file without content, which takes no place on the disk."""
LONG_AGO = ("--from", "2023-11-14T00:00:00Z", "--to", "2023-11-15T00:00:00Z")
WAITING = """
    SELECT count(*) FROM pg_locks JOIN pg_class ON pg_class.oid = relation
    WHERE NOT granted AND relnamespace = to_regnamespace(%s)
"""


@contextmanager
def started(settings: Settings, directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command as a person starts it, in `directory`."""
    with subprocess.Popen(
        [sys.executable, "-m", "app", *arguments],
        cwd=directory, env=role_environ(settings), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=heed_ctrl_c,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def contents(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*"))


@asynccontextmanager
async def locked(connection: AsyncConnection, schema: str, table: str) -> AsyncIterator[None]:
    """Nobody else reads or writes the table."""
    async with connection.transaction():
        await connection.execute(
            sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(schema, table))
        )
        yield


@pytest.mark.parametrize(
    ("arguments", "table"),
    [
        (("backup", "copy"), "alert_history"),
        (("restore", "kept", "--overwrite"), "alert_history"),
        (("restore", "kept"), "alert_history"),
        (("import", "candles.csv"), "candles_1m"),
        (("backtest", *LONG_AGO), "candles_1m"),
        (("screen", "close_1m > 0", "--at", "2023-11-14T12:00:00Z"), "candles_1m"),
        (("rules", "list"), "alert_rules"),
        (("webhooks", "targets", "list"), "webhook_targets"),
        (("migrate",), "schema_migrations"),
        (("drop-namespace", "{namespace}"), "alert_history"),
    ],
    ids=lambda value: "-".join(value[:3]) if isinstance(value, tuple) else "",
)
async def test_a_command_that_waits_for_the_database_ends_by_ctrl_c(
    settings: Settings, tmp_path: Path, arguments: tuple[str, ...], table: str
) -> None:
    schema = settings.postgres().schema
    (tmp_path / "candles.csv").write_text(CANDLES)
    async with migrated(settings) as connection:
        if "restore" in arguments:
            await back_up(settings.servers(), tmp_path / "kept", SystemClock())
        before = contents(tmp_path)
        given = [one.format(namespace=settings.namespace) for one in arguments]
        async with locked(connection, schema, table):

            async def waiting() -> bool:
                return (await (await connection.execute(WAITING, (schema,))).fetchone()) != (0,)

            with started(settings, tmp_path, *given) as process:
                await eventually(lambda: process.poll() is not None or waiting(), 60, of_work=True)
                process.send_signal(signal.SIGINT)
                output, _ = await asyncio.wait_for(asyncio.to_thread(process.communicate), 30)
            assert process.returncode == 130, output
            assert "Traceback" not in output
            assert not await waiting()
        assert contents(tmp_path) == before


async def test_a_restore_that_checks_a_large_file_ends_by_ctrl_c(settings: Settings, tmp_path: Path) -> None:
    async with migrated(settings):
        await back_up(settings.servers(), tmp_path / "kept", SystemClock())
    large = next((tmp_path / "kept" / "postgres").glob("*.gz"))
    os.truncate(large, HOURS_OF_HASHING_BYTES)
    with started(settings, tmp_path, "restore", "kept", "--overwrite") as process:
        ours = psutil.Process(process.pid)
        await eventually(lambda: str(large) in {file.path for file in ours.open_files()}, 60, of_work=True)
        process.send_signal(signal.SIGINT)
        output, _ = await asyncio.wait_for(asyncio.to_thread(process.communicate), 30)
    assert process.returncode == 130, output
    assert "Traceback" not in output
