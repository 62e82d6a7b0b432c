"""An own PostgreSQL: its data directory, its password, and its tuning for a laptop."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

import psutil

from app.errors import ServerDied
from app.stack.identity import Identity, unprivileged_identity
from app.stack.ports import LOOPBACK
from app.stack.process import ChildProcess

_USER = "screener"
_DATABASE = "postgres"
_INITDB_TIMEOUT_S = 120.0

# For two cores and a few GB that other programs share. A crash of the machine may cost the last
# transactions (at most three WAL writer delays, 0.6 s), never consistency; the sinks write them again.
_OPTIONS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "64",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "fsync": "on",
    "synchronous_commit": "off",
    "shared_buffers": "128MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "wal_compression": "on",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "huge_pages": "off",
}


def prepare_postgres(directory: Path, initdb: Path) -> None:
    """Make the data directory unless there is one. Raises ServerDied when initdb fails."""
    data, fresh, password = _data(directory), directory / "data.new", _password_file(directory)
    if data.exists():
        return
    shutil.rmtree(fresh, ignore_errors=True)  # of an initdb that was interrupted
    fresh.mkdir(mode=0o700)
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe(24))
    identity = unprivileged_identity(directory, fresh, initdb)
    _give_to(identity, fresh, password)
    # The builtin locale provider sorts and folds UTF-8 alike on every system, whatever locales it has.
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    access = (f"--username={_USER}", f"--pwfile={password}", "--auth=scram-sha-256")
    process = ChildProcess(
        "initdb",
        (initdb, f"--pgdata={fresh}", *locale, *access, "--no-sync", "--no-instructions"),
        directory / "initdb.log",
        identity=identity,
    )
    try:
        process.start()
        process.wait(_INITDB_TIMEOUT_S)
        if process.poll() != 0:
            raise ServerDied(f"the PostgreSQL data directory could not be made: {process.describe_end()}")
    finally:
        process.kill()
    fresh.rename(data)


def launch_postgres(
    directory: Path, program: Path, port: int
) -> tuple[tuple[str, ...], str, Identity | None]:
    """Command line, URL and user for the data directory made by `prepare_postgres`."""
    data = _data(directory)
    _forget_dead_postmaster(data)
    options = [part for name, value in _OPTIONS.items() for part in ("-c", f"{name}={value}")]
    argv = (str(program), "-D", str(data), "-p", str(port), *options)
    password = _password_file(directory).read_text().strip()
    url = f"postgresql://{_USER}:{password}@{LOOPBACK}:{port}/{_DATABASE}"
    return argv, url, unprivileged_identity(data, program)


def _data(directory: Path) -> Path:
    return directory / "data"


def _password_file(directory: Path) -> Path:
    return directory / "password"


def _give_to(identity: Identity | None, *paths: Path) -> None:
    if identity is not None:
        for path in paths:
            os.chown(path, identity.uid, identity.gid)


def _forget_dead_postmaster(data: Path) -> None:
    """Remove the pid file of a killed PostgreSQL whose process number another program has by now (usual after
    a container restart): PostgreSQL would take that program for itself and refuse to start."""
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split()[0])
        alive = psutil.Process(pid).name().startswith("postgres")
    except (OSError, ValueError, IndexError, psutil.Error):
        return  # no such file, or a number PostgreSQL itself sees to be free
    if not alive:
        pid_file.unlink()
