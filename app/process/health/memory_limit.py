"""How much memory this process may take, by the control groups that it is in."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psutil

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")


def memory_limit_bytes(cgroups: Path = _CGROUPS, own: Path = _OWN) -> int:
    """Return the least limit of this process's control group and its parents, at most the machine's memory.

    A container sees its own group as the root. Version 1 of control groups has one folder for memory.
    """
    limits = [psutil.virtual_memory().total]
    for group, file in _groups(cgroups, own):
        folder = group
        while folder.is_relative_to(cgroups):
            limits += _limit(folder / file)
            folder = folder.parent
    return min(limits)


def _groups(cgroups: Path, own: Path) -> list[tuple[Path, str]]:
    """Return (folder, name of its file with the limit) of each hierarchy that counts memory."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found.append((cgroups / path.lstrip("/"), "memory.max"))
        elif "memory" in controllers.split(","):
            found.append((cgroups / "memory" / path.lstrip("/"), "memory.limit_in_bytes"))
    return found


def _limit(file: Path) -> list[int]:
    """Return the limit in a file, as a list; empty without a limit."""
    try:
        text = file.read_text().strip()
    except OSError:
        return []
    return [int(text)] if text.isdigit() else []
