"""One embedded stack per directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from app.errors import ServerError

_NAME = "stack.lock"


def holder_of(directory: Path) -> int | None:
    """The living process that took the directory's lock last; None if it has ended, or nobody ever did."""
    try:
        pid = int((directory / _NAME).read_text())
    except (OSError, ValueError):
        return None
    return pid if psutil.pid_exists(pid) else None


class DirectoryLock:
    """Held by an open file, so that the system releases it however we end: a lock is never stale."""

    def __init__(self, directory: Path) -> None:
        """Take it. Raises ServerError naming the process that has it."""
        self._path = directory / _NAME
        self._file = self._path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise ServerError(
                f"the servers in {directory.resolve()} are already run by process {holder}; "
                f"stop that one, or set SCREENER_DATA_DIR to another directory"
            ) from None
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    @property
    def released(self) -> bool:
        return self._file.closed

    def release(self) -> None:
        """Harmless to repeat."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
