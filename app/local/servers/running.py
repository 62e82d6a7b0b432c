"""One stack per data directory: who runs it, and where its servers are, for other commands of the same user."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import psutil

from app.errors import ServerError
from app.process.children.child import has_ended
from app.process.private_files import make_private, name_of, write_private

EXCHANGE_URLS = ("exchange_rest", "exchange_ws")
"""Names of the URLs of a simulated exchange, whose protocol is Binance's."""
_URLS_FILE = "urls.json"
_LOCK_FILE = "stack.lock"


def holder_of(directory: Path) -> int | None:
    """Return the process that took the directory's lock last; None if it has ended, or no process ever took it."""
    try:
        pid = int((directory / _LOCK_FILE).read_text())
        return None if has_ended(psutil.Process(pid)) else pid
    except (OSError, ValueError, psutil.Error):
        return None


class DirectoryLock:
    """A lock on a data directory, held by an open file: the system releases it however we end, so it is never stale.

    No other user can open the file: directory and file are private.
    """

    def __init__(self, directory: Path) -> None:
        """Take the lock, and close the directory to other users. Raises ServerError naming the process that holds the
        lock, or the owner of the directory if that is another user."""
        make_private(directory)
        self._path = directory / _LOCK_FILE
        self._file = self._open()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(self._file)
            self._file.close()
            raise ServerError(
                f"the servers in {directory.resolve()} are already in use by {holder}; "
                f"stop it, or set SCREENER_DATA_DIR to another directory"
            ) from None
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def _open(self) -> TextIO:
        # not through a link: it would lock, and empty, a file somewhere else
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        file = os.fdopen(os.open(self._path, flags, 0o600), "a+")
        os.fchmod(file.fileno(), 0o600)
        return file

    @property
    def released(self) -> bool:
        return self._file.closed

    def release(self) -> None:
        """Release the lock. Harmless to repeat."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _holder(file: TextIO) -> str:
    """Return the lock's holder, by the system's own list: the number in the file may be that of an earlier holder."""
    pid = _locker(os.fstat(file.fileno()))
    if pid is None:
        file.seek(0)
        return f"process {file.read().strip() or 'unknown'}"
    try:
        uid = psutil.Process(pid).uids().real
    except psutil.Error:
        return f"process {pid}"
    return f"process {pid}" if uid == os.geteuid() else f"process {pid} of the user {name_of(uid)}"


def _locker(status: os.stat_result) -> int | None:
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        # number, kind, advisory or not, mode, process, device and inode, range
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == wanted and int(fields[4]) > 0:
            return int(fields[4])
    return None


def tell_urls(directory: Path, urls: Mapping[str, str]) -> None:
    """Write the URLs that `urls_of_running` returns. Only for the holder of the directory's lock. The URLs contain
    passwords: no other user may read the file."""
    write_private(directory / _URLS_FILE, json.dumps(dict(urls)))


def forget_urls(directory: Path) -> None:
    """Remove the file that `tell_urls` wrote. Harmless to repeat."""
    with suppress(FileNotFoundError):
        (directory / _URLS_FILE).unlink()


def urls_of_running(directory: Path) -> dict[str, str]:
    """Return server -> URL of the stack that runs in this directory; empty if none runs. With a simulated exchange,
    its URLs are included, under the names of EXCHANGE_URLS."""
    if holder_of(directory) is None:
        return {}
    try:
        found = json.loads((directory / _URLS_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return {str(server): str(url) for server, url in found.items()} if isinstance(found, dict) else {}
