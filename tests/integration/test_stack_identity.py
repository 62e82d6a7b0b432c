"""PostgreSQL refuses to run as root: when we are root, it runs as somebody else, wherever its files lie."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from app.local.servers.embedded import EmbeddedStack
from app.process.children.identity import unprivileged_identity

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A folder that every user can enter, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@as_root
def test_postgres_runs_unprivileged_in_a_folder_open_to_all(open_directory: Path) -> None:
    _assert_postgres_works_as_another_user(open_directory / "servers")


@as_root
def test_postgres_runs_unprivileged_in_a_folder_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    _assert_postgres_works_as_another_user(tmp_path / "servers")


def _assert_postgres_works_as_another_user(directory: Path) -> None:
    with EmbeddedStack.start(directory, ["postgres"]) as stack:
        assert psutil.Process(stack.processes["postgres"].pid).uids().effective != 0
        with psycopg.connect(stack.urls["postgres"]) as database:
            found = (
                database.execute("SHOW server_encoding").fetchone(),
                database.execute("SHOW timezone").fetchone(),
            )
    assert found == (("UTF8",), ("UTC",))


@as_root
def test_extra_rights_are_kept_only_where_folders_are_closed(open_directory: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "data").mkdir()
    open_to_all = unprivileged_identity(open_directory)
    closed = unprivileged_identity(open_directory, tmp_path / "data")
    assert open_to_all is not None
    assert closed is not None
    assert not open_to_all.reach_everything
    assert closed.reach_everything


@as_root
def test_the_owner_of_the_folder_is_preferred(open_directory: Path) -> None:
    os.chown(open_directory, 12345, 12345)
    identity = unprivileged_identity(open_directory)
    assert identity is not None
    assert (identity.uid, identity.gid) == (12345, 12345)


def test_the_database_password_is_readable_by_nobody_else(stack: EmbeddedStack) -> None:
    password = stack.directory / "postgres" / "owner_password"
    assert password.read_text() in stack.urls["postgres"]
    assert password.stat().st_mode & 0o077 == 0
