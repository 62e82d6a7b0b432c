"""Where machine code is kept, and that only what computes imports the compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.compiled import directory_of


def test_commands_that_compute_nothing_do_not_import_the_compiler() -> None:
    code = "import sys; import app.cli.main; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_machine_code_is_kept_where_the_user_wants_it(tmp_path: Path) -> None:
    directory = directory_of(str(tmp_path))
    assert directory is not None
    assert directory.is_relative_to(tmp_path)
    assert directory.is_dir()


def test_machine_code_is_kept_in_the_cache_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    directory = directory_of("")
    assert directory is not None
    assert directory.is_relative_to(tmp_path / "screener")


def test_without_a_place_to_write_to_machine_code_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert directory_of(str(tmp_path / "file")) is None
