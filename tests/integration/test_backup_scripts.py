"""The scripts of the chart's and Compose's backups run on real servers; what they wrote is brought back into others."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.local.servers.catalogue import ValkeyServer
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import LOOPBACK, free_port, listens
from app.process.children.child import ChildProcess
from app.settings import Settings
from app.wire.redis import connect_redis
from tests.support import backup_programs
from tests.support.eventually import eventually
from tests.support.kept_data import (
    SERVERS,
    fill,
    goes_on,
    settings_of,
    stored_keys,
    stored_messages,
    stored_rows,
)

# on a bare machine Go builds the command `nats` first
pytestmark = pytest.mark.timeout(600)

SCRIPTS = Path(__file__).parents[2] / "deploy" / "helm" / "screener" / "files" / "backup"


async def run(*command: str | Path, programs: Path, **variables: str | Path) -> None:
    environ = os.environ | backup_programs.with_programs([programs])
    environ |= {name: str(value) for name, value in variables.items()}
    done = await asyncio.to_thread(
        subprocess.run, command, check=False, capture_output=True, text=True, env=environ, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def backed_up(server: str, url: str, folder: Path, programs: Path) -> Path:
    """The one backup that the script of a server made."""
    file = folder / "url"
    file.write_text(url)
    backups = folder / "backups"
    await run(
        "sh", SCRIPTS / f"{server}.sh",
        programs=programs, SERVER_URL_FILE=file, FOLDER=backups, RETENTION_DAYS="7", HOME=folder,
    )  # fmt: skip
    (made,) = (backups / server).iterdir()
    return made


@asynccontextmanager
async def filled_servers(folder: Path) -> AsyncIterator[tuple[EmbeddedStack, Settings]]:
    """Servers that keep something of every kind; afterwards neither they nor their files are there."""
    with EmbeddedStack.start(folder / "first", SERVERS) as running:
        settings = settings_of(running, "")
        await fill(settings)
        yield running, settings
    shutil.rmtree(folder / "first")


async def test_every_row_comes_back_from_the_dump_of_the_database(tmp_path: Path) -> None:
    programs = backup_programs.programs_of_postgres()
    async with filled_servers(tmp_path) as (first, settings):
        before = await stored_rows(settings)
        dump = await backed_up("postgres", first.urls["postgres"], tmp_path, programs)
    with EmbeddedStack.start(tmp_path / "second", ["postgres"]) as second:
        url = second.urls["postgres"]
        await run("pg_restore", "--clean", "--if-exists", "--dbname", url, dump, programs=programs)
        assert await stored_rows(settings_of(second, "")) == before


async def test_every_key_comes_back_from_the_file_of_redis(tmp_path: Path) -> None:
    """Into a server that keeps an append-only file, as Compose's does: it reads no other."""
    (tmp_path / "programs").mkdir()
    programs = backup_programs.programs_of_redis(tmp_path / "programs")
    async with filled_servers(tmp_path) as (first, settings):
        before = await stored_keys(settings)
        file = await backed_up("redis", first.urls["redis"], tmp_path, programs)
    data = tmp_path / "second" / "redis"
    data.mkdir(parents=True)
    await put_in_place(file, data)
    with EmbeddedStack.start(tmp_path / "second", ["redis"]) as second:
        assert await stored_keys(settings_of(second, "")) == before


async def put_in_place(file: Path, data: Path) -> None:
    """As the runbook has it: once without the append-only file, which is then made anew."""
    shutil.copy(file, data / "dump.rdb")
    port = free_port()
    program = ValkeyServer().launch(data, port).argv[0]
    argv = (
        program,
        "--dir",
        data,
        "--bind",
        LOOPBACK,
        "--port",
        str(port),
        "--appendonly",
        "no",
        "--save",
        "",
    )
    process = ChildProcess("redis", argv, data / "restore.log")
    process.start()
    redis = connect_redis(f"redis://{LOOPBACK}:{port}/0")
    try:
        await eventually(lambda: listens(process.pid or 0, port), of_work=True)
        await redis.config_set("appendonly", "yes")

        async def rewritten() -> bool:
            found = await redis.info("persistence")
            return not (found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"])

        await eventually(rewritten)
    finally:
        await redis.aclose()
        process.stop()


async def test_every_message_comes_back_from_the_snapshot_of_the_stream(tmp_path: Path) -> None:
    programs = backup_programs.programs_of_nats()
    async with filled_servers(tmp_path) as (first, settings):
        before = await stored_messages(settings)
        snapshot = await backed_up("nats", first.urls["nats"], tmp_path, programs)
    with EmbeddedStack.start(tmp_path / "second", SERVERS) as second:
        environ = {"NATS_URL": second.urls["nats"], "HOME": tmp_path}
        await run("nats", "stream", "restore", snapshot, "--no-progress", programs=programs, **environ)
        again = settings_of(second, "")
        assert await stored_messages(again) == before
        await goes_on(again)


@pytest.mark.parametrize("server", ["postgres", "redis", "nats"])
async def test_a_script_whose_server_is_away_fails_and_leaves_no_backup(tmp_path: Path, server: str) -> None:
    (tmp_path / "programs").mkdir()
    found = {
        "postgres": backup_programs.programs_of_postgres,
        "redis": lambda: backup_programs.programs_of_redis(tmp_path / "programs"),
        "nats": backup_programs.programs_of_nats,
    }
    scheme = {"postgres": "postgresql"}.get(server, server)
    programs = found[server]()
    with pytest.raises(AssertionError):
        await backed_up(server, f"{scheme}://{LOOPBACK}:{free_port()}", tmp_path, programs)
    assert [path for path in (tmp_path / "backups" / server).iterdir() if path.suffix != ".part"] == []
