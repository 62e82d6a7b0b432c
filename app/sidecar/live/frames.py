"""WebSocket frames as a server sends them (RFC 6455, 5.2): final and unmasked, so that one frame serves all receivers,
and joined in blocks, so that a message to many clients is framed and joined once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A
_CONTROL_MAX_BYTES: Final = 125
"""Longest payload of a control frame (5.5)."""

PING: Final = bytes((_PING, 0))


def text_frame(payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes((_TEXT, length)) + payload
    if length < 65_536:
        return b"\x81\x7e" + length.to_bytes(2, "big") + payload
    return b"\x81\x7f" + length.to_bytes(8, "big") + payload


def close_frame(code: int, reason: str) -> bytes:
    """`reason` is cut to the capacity of a control frame."""
    text = reason.encode()[: _CONTROL_MAX_BYTES - 2].decode(errors="ignore").encode()
    return bytes((_CLOSE, 2 + len(text))) + code.to_bytes(2, "big") + text


def pong_frame(payload: bytes) -> bytes:
    return bytes((_PONG, len(payload))) + payload


@dataclass(frozen=True, slots=True)
class FrameBlock:
    """Consecutive frames, written to a client in one go."""

    data: bytes
    messages: int


def blocks(frames: Iterable[bytes], most_bytes: int) -> Iterator[FrameBlock]:
    """Yield the frames in order, in blocks of at most `most_bytes` (or of one frame, if that is larger)."""
    joined: list[bytes] = []
    size = 0
    for frame in frames:
        if joined and size + len(frame) > most_bytes:
            yield FrameBlock(b"".join(joined), len(joined))
            joined, size = [], 0
        joined.append(frame)
        size += len(frame)
    if joined:
        yield FrameBlock(b"".join(joined), len(joined))
