"""Where the wheels of the extra `local` put the servers' programs, and the advice when one is not installed."""

from __future__ import annotations

import importlib.util
import shutil
import stat
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from app.errors import ServerMissing


def find_program(package: str, within: str, wheel: str, server: str, setting: str) -> Path:
    """Return the program at `within` of an installed `package`. Raises ServerMissing with the way out."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for found in sorted(Path(folder).glob(within)):
            return executable(found)
    raise _missing(wheel, server, setting)


def find_script(name: str, wheel: str, server: str, setting: str) -> Path:
    """Return the program `name` beside this Python, or on PATH. Raises ServerMissing with the way out."""
    beside = Path(sysconfig.get_path("scripts")) / name
    if beside.is_file():
        return executable(beside)
    on_path = shutil.which(name)
    if on_path is None:
        raise _missing(wheel, server, setting)
    return Path(on_path)


def require_packages(packages: Sequence[str], server: str, setting: str) -> None:
    """Check the packages of a server. Raises ServerMissing with the way out if one is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise _missing(package, server, setting)


def executable(program: Path) -> Path:
    """Return `program`, with the executable bit that some installers drop set."""
    if not program.stat().st_mode & stat.S_IXUSR:
        program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return program


def _missing(package: str, server: str, setting: str) -> ServerMissing:
    return ServerMissing(
        f"no {server} to start, because {package} is not installed: set {setting} to your own server, "
        "or run `pip install 'screener[local]'` (servers for Linux and macOS)"
    )
