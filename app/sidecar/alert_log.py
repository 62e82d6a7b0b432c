"""The newest alerts in memory, as WebSocket frames in order of `seq`: sent to clients, resumed from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.sidecar.limits import SidecarLimits
from app.sidecar.wire import text_frame


@dataclass(frozen=True, slots=True)
class Block:
    """Frames of consecutive alerts, joined; written to a client in one go."""

    data: bytes
    messages: int
    last_seq: int


def blocks(frames: Sequence[tuple[int, bytes]], most_bytes: int) -> Iterator[Block]:
    """(seq, frame) pairs in order, as blocks of at most `most_bytes` (or of one frame, if that is larger)."""
    start, size = 0, 0
    for i, (_, frame) in enumerate(frames):
        if i > start and size + len(frame) > most_bytes:
            yield _block(frames[start:i])
            start, size = i, 0
        size += len(frame)
    if frames:
        yield _block(frames[start:])


def _block(frames: Sequence[tuple[int, bytes]]) -> Block:
    return Block(b"".join(frame for _, frame in frames), len(frames), frames[-1][0])


class AlertLog:
    """Bounded by number and bytes. Not a record of everything: `floor_seq` tells where it begins.

    Every alert with seq > floor_seq is here, once by id. For those up to floor_seq ask the database; it has
    them all when its newest seq is at least `settled_seq`.
    """

    def __init__(self, limits: SidecarLimits) -> None:
        self._limits = limits
        self._ids: dict[str, None] = {}
        self.restart(-1)

    def restart(self, floor_seq: int) -> None:
        """Forgets all alerts and ids, as for a topic that begins anew after `floor_seq`."""
        self._seqs: list[int] = []
        self._frames: list[bytes] = []
        self._bytes = 0
        self._ids.clear()
        self.floor_seq = floor_seq
        self.settled_seq = -1
        self.newest_seq = floor_seq
        """The newest record taken, repeats and barriers included."""

    def __len__(self) -> int:
        return len(self._seqs)

    def is_repeat(self, identifier: str) -> bool:
        """Whether this id was learnt lately."""
        return identifier in self._ids

    def learn(self, identifier: str, seq: int) -> None:
        """Remembers an alert only by its id: the database holds it, not this log."""
        self._remember(identifier)
        self.floor_seq = self.settled_seq = self.newest_seq = seq

    def skip(self, seq: int) -> None:
        """Notes a record that is no new alert."""
        self.newest_seq = max(self.newest_seq, seq)

    def append(self, identifier: str, seq: int, payload: bytes) -> bytes:
        """Adds the next alert and returns its frame. `seq` is above all before it, `identifier` is new."""
        frame = text_frame(payload)
        self._remember(identifier)
        self._seqs.append(seq)
        self._frames.append(frame)
        self._bytes += len(frame)
        self.newest_seq = seq
        self._trim()
        return frame

    def _remember(self, identifier: str) -> None:
        self._ids[identifier] = None
        if len(self._ids) > self._limits.remembered_ids:
            del self._ids[next(iter(self._ids))]

    def _trim(self) -> None:
        """Drops a tenth more than needed, so that the lists move rarely."""
        if len(self._seqs) <= self._limits.remembered_alerts and self._bytes <= self._limits.remembered_bytes:
            return
        most_alerts = self._limits.remembered_alerts * 9 // 10
        most_bytes = self._limits.remembered_bytes * 9 // 10
        drop = 0
        while drop < len(self._seqs) and (len(self._seqs) - drop > most_alerts or self._bytes > most_bytes):
            self._bytes -= len(self._frames[drop])
            drop += 1
        self.floor_seq = self.settled_seq = self._seqs[drop - 1]
        del self._seqs[:drop], self._frames[:drop]

    def holds_all_after(self, seq: int) -> bool:
        return seq >= self.floor_seq

    def after(self, seq: int, most: int) -> Block | None:
        """The next alerts after `seq`, at most `most` of them; None when there are none."""
        start = bisect_right(self._seqs, seq)
        frames = self._frames[start : start + most]
        if not frames:
            return None
        return Block(b"".join(frames), len(frames), self._seqs[start + len(frames) - 1])
