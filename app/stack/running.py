"""Where the servers of a running stack are, told to other commands of the same user on the same machine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from app.stack.lock import holder_of

_FILE = "urls.json"


def tell_urls(directory: Path, urls: Mapping[str, str]) -> None:
    """Only for the holder of the directory's lock. The URLs hold passwords: nobody else may read the file."""
    passing = directory / f"{_FILE}.tmp"
    with suppress(FileNotFoundError):
        passing.unlink()
    with os.fdopen(os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(dict(urls), file)
    passing.replace(directory / _FILE)


def forget_urls(directory: Path) -> None:
    """Harmless to repeat."""
    with suppress(FileNotFoundError):
        (directory / _FILE).unlink()


def urls_of_running(directory: Path) -> dict[str, str]:
    """Server -> URL of the stack that somebody runs in this directory; empty if nobody does."""
    if holder_of(directory) is None:
        return {}
    try:
        found = json.loads((directory / _FILE).read_text())
    except (OSError, ValueError):
        return {}
    return {str(server): str(url) for server, url in found.items()} if isinstance(found, dict) else {}
