"""PostgreSQL with TimescaleDB in WASM, on loopback and in memory: needs Node.js and npm.

There is no Python package with TimescaleDB. This server serves one connection at a time, has no background workers, and
ends at a COPY FROM STDIN.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import platformdirs
import psycopg
import pytest
from psycopg import sql

from app.process.children.child import ChildProcess
from app.settings import Settings
from tests.support.programs import need_programs
from tests.support.servers import settings_for

_FILES = Path(__file__).parent / "timescaledb"
_INSTALL_TIMEOUT_S = 300.0
_START_TIMEOUT_S = 120.0


@contextmanager
def timescaledb(folder: Path, log_dir: Path, licence: str = "timescale") -> Iterator[Settings]:
    """Run a server with the licence; yield settings for it. Its session uses a fresh schema."""
    log_file = log_dir / f"timescaledb-{licence}.log"
    server = ChildProcess("TimescaleDB", ("node", folder / "server.mjs", licence), log_file)
    server.start()
    try:
        url = f"postgresql://postgres:none@127.0.0.1:{_port(server, log_file)}/postgres?sslmode=disable"
        settings = settings_for({"postgres": url})
        with psycopg.connect(url, autocommit=True) as connection:
            # all connections share one session, which ignores a connection's options
            schema = sql.Identifier(settings.database_schema)
            connection.execute(sql.SQL("SET search_path TO {}").format(schema))
            connection.execute("SET timezone TO 'UTC'")
        yield settings
    finally:
        server.stop(10.0)


@pytest.fixture(scope="session")
def timescaledb_folder() -> Path:
    """The folder of the server and its packages. Skips the test where Node.js or npm is missing."""
    need_programs(("node", "npm"), "TimescaleDB in WASM", "nodejs and npm")
    return timescaledb_programs()


def timescaledb_programs() -> Path:
    """Return the folder of the server and its packages, which npm installs once into the user's cache."""
    pinned = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_FILES.iterdir()))).hexdigest()
    cache = platformdirs.user_cache_path("screener-tests", ensure_exists=True)
    folder = cache / f"timescaledb-{pinned[:16]}"
    with (cache / "timescaledb.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _install(cache, folder)
    return folder


def _install(cache: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache) as workspace:
        made = Path(workspace) / "made"
        shutil.copytree(_FILES, made)
        arguments = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
        npm = ChildProcess("npm", arguments, cache / "npm.log", cwd=made)
        npm.start()
        try:
            npm.wait(_INSTALL_TIMEOUT_S)
            assert npm.poll() == 0, npm.describe_end()
        finally:
            npm.kill()
        # an atomic rename: an interrupted installation never leaves half a folder
        made.rename(folder)


def _port(server: ChildProcess, log_file: Path) -> int:
    """Return the port, which the server prints once it serves."""
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        assert server.poll() is None, server.describe_end()
        for line in log_file.read_text().splitlines():
            if line.startswith('{"port"'):
                return int(orjson.loads(line)["port"])
        time.sleep(0.05)
    raise TimeoutError(f"TimescaleDB does not serve within {_START_TIMEOUT_S:.0f} s: {log_file.read_text()}")
