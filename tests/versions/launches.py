"""Starting a server of any version on loopback, as its operator would, without its owner's rights for us."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from app.local.servers.ports import LOOPBACK, listens
from app.process.children.child import ChildProcess
from app.process.children.identity import Identity, unprivileged_identity

Launch = Callable[[Path, Path, int], tuple[ChildProcess, str]]
"""(folder of the programs, empty folder for data, port) -> (running process, URL)"""
_START_S = 60.0


def redis(programs: Path, data: Path, port: int) -> tuple[ChildProcess, str]:
    program = next(
        _program(programs, name) for name in ("valkey-server", "redis-server") if _has(programs, name)
    )
    argv = (program, "--port", str(port), "--bind", LOOPBACK, "--dir", data, "--save", "")
    return _started("redis", argv, data, port), f"redis://{LOOPBACK}:{port}/0"


def nats(programs: Path, data: Path, port: int) -> tuple[ChildProcess, str]:
    configuration = data / "nats.conf"
    configuration.write_text(
        f"listen: '{LOOPBACK}:{port}'\nmax_payload: 16MB\njetstream {{ store_dir: '{data}' }}\n"
    )
    argv = (_program(programs, "nats-server"), "--config", configuration)
    return _started("nats", argv, data, port), f"nats://{LOOPBACK}:{port}"


def postgres(programs: Path, data: Path, port: int) -> tuple[ChildProcess, str]:
    """With an ordinary role, and a database that it owns."""
    server = _within_reach(_program(programs, "postgres").resolve(), data)
    initdb = server.with_name("initdb")
    home = data / "data"
    home.mkdir(mode=0o700)
    identity = unprivileged_identity(home, initdb)
    if identity is not None:
        os.chown(home, identity.uid, identity.gid)
    made = ("--username=postgres", "--auth=trust", "--locale=C", "--encoding=UTF8", "--no-sync")
    making = ChildProcess("initdb", (initdb, "--pgdata", home, *made), data / "initdb.log", identity=identity)
    making.start()
    assert making.wait(_START_S) == 0, making.describe_end()
    options = {
        "listen_addresses": LOOPBACK,
        "unix_socket_directories": "",
        "fsync": "off",
        "max_connections": "200",
    }
    argv = (server, "-D", home, "-p", str(port), *(f"--{name}={value}" for name, value in options.items()))
    process = _started("postgres", argv, data, port, identity)
    with psycopg.connect(f"postgresql://postgres@{LOOPBACK}:{port}/postgres", autocommit=True) as connection:
        connection.execute("CREATE ROLE tester LOGIN")
        connection.execute("CREATE DATABASE test OWNER tester")
    return process, f"postgresql://tester@{LOOPBACK}:{port}/test"


def _within_reach(program: Path, folder: Path) -> Path:
    """`program`, or a copy in `folder` with all around it: root's cache is closed to PostgreSQL's user."""
    if all(parent.stat().st_mode & stat.S_IXOTH for parent in program.parents):
        return program
    installed = program.parents[1]
    copied = shutil.copytree(installed, folder / installed.name, symlinks=True)
    return copied / program.relative_to(installed)


def _has(folder: Path, name: str) -> bool:
    return any(folder.rglob(name))


def _program(folder: Path, name: str) -> Path:
    found = next(path for path in sorted(folder.rglob(name)) if path.is_file())
    if not found.is_symlink():
        found.chmod(0o755)  # zip keeps no rights
    return found


def _started(
    name: str, argv: tuple[str | Path, ...], data: Path, port: int, identity: Identity | None = None
) -> ChildProcess:
    process = ChildProcess(name, argv, data / f"{name}.log", identity=identity)
    process.start()
    deadline = time.monotonic() + _START_S
    while not listens(process.pid or 0, port):
        assert process.poll() is None, process.describe_end()
        assert time.monotonic() < deadline, process.describe_end()
        time.sleep(0.05)
    return process
