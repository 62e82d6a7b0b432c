"""Commands in a directory where no screener ever ran say what to do, and leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.process.exit_status import EXIT_CONFIG


@pytest.mark.parametrize("arguments", [["backup", "copy"], ["rules", "list"], ["migrate"]])
def test_a_command_without_servers_says_what_to_do_starts_none_and_leaves_nothing(
    arguments: list[str], tmp_path: Path
):
    program = [sys.executable, "-c", "from app.cli.main import main; main()", *arguments]
    ended = subprocess.run(program, cwd=tmp_path, env={}, capture_output=True, text=True, timeout=60)
    assert ended.returncode == EXIT_CONFIG
    assert "SCREENER_POSTGRES_URL" in ended.stderr
    assert "`screener up`" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []
