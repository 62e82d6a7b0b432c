"""Frames joined for writing: what goes to many clients is framed and joined once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive frames, written to a client in one go."""

    data: bytes
    messages: int


def blocks(frames: Iterable[bytes], most_bytes: int) -> Iterator[Block]:
    """The frames in order, in blocks of at most `most_bytes` (or of one frame, if that is larger)."""
    joined: list[bytes] = []
    size = 0
    for frame in frames:
        if joined and size + len(frame) > most_bytes:
            yield Block(b"".join(joined), len(joined))
            joined, size = [], 0
        joined.append(frame)
        size += len(frame)
    if joined:
        yield Block(b"".join(joined), len(joined))
