"""A PostgreSQL of our own: its data directory, its owner and password, and its tuning for a laptop.

The screener uses it as an ordinary owner of the database, as it would any other PostgreSQL. The superuser that
initdb makes only creates this owner, in single-user mode before the server starts.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import psutil

from app.errors import ServerDied
from app.local.servers.ports import LOOPBACK
from app.process.children.child import ChildProcess
from app.process.children.identity import Identity, unprivileged_identity

_SUPERUSER = "screener"
_OWNER = "screener_owner"
_DATABASE = "postgres"
_INITDB_TIMEOUT_S = 120.0
_OWNER_TIMEOUT_S = 60.0
# A statement that fails must not be logged, because it contains a password.
_SINGLE_OPTIONS = ("-c", "exit_on_error=on", "-c", "log_min_error_statement=panic")

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


# The loops give the superuser's objects to the owner: data directories from before there was an owner have some.
_MAKE_OWNER = """\
DO $$
DECLARE
    found record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{owner}') THEN
        CREATE ROLE {owner} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
    END IF;
    ALTER ROLE {owner} PASSWORD '{password}';
    EXECUTE format('GRANT CREATE, CONNECT, TEMPORARY ON DATABASE %I TO {owner}', current_database());
    FOR found IN
        SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    LOOP
        EXECUTE format('ALTER SCHEMA %I OWNER TO {owner}', found.nspname);
    END LOOP;
    FOR found IN
        SELECT c.oid::regclass AS name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'm')
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO {owner}', found.name);
    END LOOP;
    FOR found IN
        SELECT c.oid::regclass AS name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind = 'S'
          AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i'))
    LOOP
        EXECUTE format('ALTER SEQUENCE %s OWNER TO {owner}', found.name);
    END LOOP;
    FOR found IN
        SELECT p.oid::regprocedure AS name FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    LOOP
        EXECUTE format('ALTER ROUTINE %s OWNER TO {owner}', found.name);
    END LOOP;
END
$$;
"""


def prepare_postgres(directory: Path, program: Callable[[str], Path]) -> None:
    """Make the data directory and its owner unless they are there. `program` finds a program of PostgreSQL.

    Raises ServerDied when a program of PostgreSQL fails."""
    if not _data(directory).exists():
        _make_data(directory, program("initdb"))
    if not _owner_file(directory).exists():
        _make_owner(directory, program("postgres"))


def _make_data(directory: Path, initdb: Path) -> None:
    data, fresh, password = _data(directory), directory / "data.new", _superuser_file(directory)
    shutil.rmtree(fresh, ignore_errors=True)  # left by an interrupted initdb
    fresh.mkdir(mode=0o700)
    _write_secret(password, secrets.token_urlsafe(24))
    identity = unprivileged_identity(directory, fresh, initdb)
    _give_to(identity, fresh, password)
    # The builtin locale provider sorts and folds UTF-8 alike on every system, with any locales.
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    access = (f"--username={_SUPERUSER}", f"--pwfile={password}", "--auth=scram-sha-256")
    process = ChildProcess(
        "initdb",
        (initdb, f"--pgdata={fresh}", *locale, *access, "--no-sync", "--no-instructions"),
        directory / "initdb.log",
        identity=identity,
    )
    _run(process, _INITDB_TIMEOUT_S, "the PostgreSQL data directory could not be created")
    fresh.rename(data)


def _make_owner(directory: Path, postgres: Path) -> None:
    data, password, statements = _data(directory), secrets.token_urlsafe(24), directory / "owner.sql"
    _forget_dead_postmaster(data)
    log = directory / "owner.log"
    log.unlink(missing_ok=True)
    _write_secret(statements, _MAKE_OWNER.format(owner=_OWNER, password=password))
    process = ChildProcess(
        "postgres --single",
        (
            postgres,
            "--single",
            "-j",
            "-D",
            data,
            "-c",
            "exit_on_error=on",
            "-c",
            "log_min_error_statement=panic",
            _DATABASE,
        ),
        log,
        identity=unprivileged_identity(data, postgres),
        stdin=statements,
    )
    try:
        _run(process, _OWNER_TIMEOUT_S, "the owner of the PostgreSQL database could not be created")
    finally:
        statements.unlink()
    passing = directory / "owner_password.new"
    _write_secret(passing, password)
    passing.rename(_owner_file(directory))


def _run(process: ChildProcess, timeout_s: float, failure: str) -> None:
    try:
        process.start()
        process.wait(timeout_s)
        if process.poll() != 0:
            raise ServerDied(f"{failure}: {process.describe_end()}")
    finally:
        process.kill()


def launch_postgres(
    directory: Path, program: Path, port: int
) -> tuple[tuple[str, ...], str, Identity | None]:
    """Return command line, URL and user for the data directory made by `prepare_postgres`."""
    data = _data(directory)
    _forget_dead_postmaster(data)
    options = [part for name, value in _OPTIONS.items() for part in ("-c", f"{name}={value}")]
    argv = (str(program), "-D", str(data), "-p", str(port), *options)
    password = _owner_file(directory).read_text().strip()
    url = f"postgresql://{_OWNER}:{password}@{LOOPBACK}:{port}/{_DATABASE}"
    return argv, url, unprivileged_identity(data, program)


def _data(directory: Path) -> Path:
    return directory / "data"


def _superuser_file(directory: Path) -> Path:
    return directory / "password"


def _owner_file(directory: Path) -> Path:
    return directory / "owner_password"


def _write_secret(file: Path, text: str) -> None:
    """Write a file that only we can read, from the moment it exists."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)


def _give_to(identity: Identity | None, *paths: Path) -> None:
    if identity is not None:
        for path in paths:
            os.chown(path, identity.uid, identity.gid)


def _forget_dead_postmaster(data: Path) -> None:
    """Remove the pid file of a killed PostgreSQL if its process number belongs to another program (usual after a
    container restart): PostgreSQL would mistake that program for itself and refuse to start."""
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split()[0])
        alive = psutil.Process(pid).name().startswith("postgres")
    except (OSError, ValueError, IndexError, psutil.Error):
        return  # no such file, or a number that PostgreSQL itself finds to be free
    if not alive:
        pid_file.unlink()
