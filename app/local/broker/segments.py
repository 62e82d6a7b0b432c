"""Files that hold records, so that the broker's memory does not grow with them."""

from __future__ import annotations

import os
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SEGMENT_BYTES: Final = 8 * 1024 * 1024


class Segments:
    """The files of one partition. They have no name, so the system removes them when the process ends, and a full
    one when its last `Piece` is released."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._current: _Segment | None = None

    def put(self, data: bytes) -> Piece:
        """Append `data`. Raises OSError, for example on a full disk."""
        segment = self._current
        if segment is None or segment.size_bytes >= SEGMENT_BYTES:
            segment = self._current = _Segment(self._directory)
        return segment.append(data)


class _Segment:
    def __init__(self, directory: Path) -> None:
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            self._fd = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._fd)
        self.size_bytes = 0

    def append(self, data: bytes) -> Piece:
        position = self.size_bytes
        written = 0
        while written < len(data):
            written += os.pwrite(self._fd, memoryview(data)[written:], position + written)
        self.size_bytes += len(data)
        return Piece(self, position, len(data))

    def read(self, position: int, size_bytes: int) -> bytes:
        data = os.pread(self._fd, size_bytes, position)
        while len(data) < size_bytes:
            more = os.pread(self._fd, size_bytes - len(data), position + len(data))
            if not more:
                raise OSError(f"a segment ends at {position + len(data)}, before {position + size_bytes}")
            data += more
        return data


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes in a segment."""

    segment: _Segment
    position: int
    size_bytes: int

    def read(self) -> bytes:
        """Read the piece. Raises OSError."""
        return self.segment.read(self.position, self.size_bytes)
