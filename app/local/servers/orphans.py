"""Servers that outlived the process that started them, found again by their recorded process numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from app.process.children.child import ChildProcess, has_ended, wait_ended
from app.process.private_files import write_private

_FILE = "processes.json"


def record(directory: Path, processes: Iterable[ChildProcess]) -> None:
    """Store number and start time of the running processes: together they identify a process for good."""
    entries = []
    for process in processes:
        if process.pid is not None:
            with suppress(psutil.Error):
                entries.append([process.pid, psutil.Process(process.pid).create_time()])
    write_private(directory / _FILE, json.dumps(entries))


def end_orphans(directory: Path, timeout_s: float = 10.0) -> None:
    """End the processes that an earlier owner of `directory` left running. Only for the holder of its lock."""
    try:
        entries = json.loads((directory / _FILE).read_text())
    except (OSError, ValueError):
        return
    alive = []
    for pid, born in entries:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.create_time() == born and not has_ended(process):
                alive.append(process)
    for process in alive:
        with suppress(psutil.Error):
            process.terminate()
    remaining = wait_ended(alive, timeout_s)
    for process in remaining:
        with suppress(psutil.Error):
            process.kill()
    wait_ended(remaining, timeout_s)
