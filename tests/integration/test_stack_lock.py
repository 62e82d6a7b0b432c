"""The directory of `screener up` is its user's alone."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from app.errors import ServerError
from app.local.servers.running import DirectoryLock
from app.process import private_files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_an_earlier_version_left_open_is_closed_and_kept(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    (directory / "logs").mkdir(parents=True)
    (directory / "postgres" / "data").mkdir(parents=True)
    for name in ("logs/bridge.log", "postgres/data/PG_VERSION", "stack.lock"):
        (directory / name).write_text("17")
        (directory / name).chmod(0o644)
    for path in (directory, directory / "logs", directory / "postgres", directory / "postgres" / "data"):
        path.chmod(0o755)
    with DirectoryLock(directory):
        assert {mode(directory), mode(directory / "logs"), mode(directory / "postgres")} == {0o700}
        assert {mode(directory / "logs" / "bridge.log"), mode(directory / "stack.lock")} == {0o600}
        assert (directory / "logs" / "bridge.log").read_text() == "17"
        assert mode(directory / "postgres" / "data") == 0o755, "PostgreSQL looks after its own"


def test_a_directory_of_another_user_is_refused_with_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = private_files.name_of(tmp_path.stat().st_uid)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ServerError, match=f"belongs to the user {owner}.*SCREENER_DATA_DIR"):
        DirectoryLock(tmp_path)


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "stack.lock").symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic link"):
        DirectoryLock(directory)
    assert elsewhere.read_text() == "precious"


def test_who_holds_the_lock_is_said_whatever_the_file_says(tmp_path: Path) -> None:
    with (tmp_path / "stack.lock").open("w") as held:
        held.write("1")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ServerError, match=f"already in use by process {os.getpid()};"):
            DirectoryLock(tmp_path)
