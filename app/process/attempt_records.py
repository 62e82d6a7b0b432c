"""The records that a process works on, and the records at which one ended, as bytes in memory and in files."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson
import structlog

NOTE_BYTES: Final = 64 * 1024
LENGTH_BYTES: Final = 4
_KEPT: Final = 1_000

Span = tuple[str, int, int, int]
"""(source, first offset, last offset, stamp of the first)"""
log = structlog.get_logger("quarantine")


@dataclass(frozen=True, slots=True)
class Record:
    """source: `topic/partition`, a stream, a table. stamp: distinguishes it from another record at the same offset,
    for example in a topic that was created again: its time, or a checksum."""

    source: str
    offset: int
    stamp: int = 0


@dataclass(slots=True)
class KnownEnds:
    """ends: (source, offset) -> (stamp, ends, said). suspects: source -> (first offset, last offset)."""

    ends: dict[tuple[str, int], tuple[int, int, str]] = field(default_factory=dict)
    suspects: dict[str, tuple[int, int]] = field(default_factory=dict)

    def pack(self) -> bytes:
        ends = [[*place, *found] for place, found in list(self.ends.items())[-_KEPT:]]
        return orjson.dumps({"ends": ends, "suspects": self.suspects})

    @classmethod
    def unpack(cls, packed: bytes) -> KnownEnds:
        """Decode. Raises ValueError, KeyError or TypeError for bytes that `pack` did not write."""
        read = orjson.loads(packed)
        ends = {(str(one[0]), int(one[1])): (int(one[2]), int(one[3]), str(one[4])) for one in read["ends"]}
        return cls(
            ends, {str(key): (int(first), int(last)) for key, (first, last) in read["suspects"].items()}
        )

    def count(self, spans: Sequence[Span], said: str) -> None:
        """Count an end of a process at these spans."""
        if len(spans) == 1 and spans[0][1] == spans[0][2]:
            source, offset, _, stamp = spans[0]
            before = self.ends.pop((source, offset), (stamp, 0, ""))
            # an earlier end at a whole batch counts for the record of that batch at which the process ended again
            ends = before[1] if before[0] == stamp and before[1] else int(self.is_suspect(source, offset))
            self.ends[source, offset] = (stamp, ends + 1, said)
            return
        for source, first, last, _ in spans:
            self.suspects[source] = (first, last)

    def is_suspect(self, source: str, offset: int) -> bool:
        first, last = self.suspects.get(source, (1, 0))
        return first <= offset <= last


def spans_of(records: Sequence[Record]) -> list[Span]:
    """Return one span for each source."""
    spans: dict[str, Span] = {}
    for record in records:
        _, first, last, stamp = spans.get(record.source, ("", record.offset, record.offset, record.stamp))
        spans[record.source] = (record.source, min(first, record.offset), max(last, record.offset), stamp)
    return list(spans.values())


def packed_note(records: Sequence[Record]) -> bytes:
    packed = orjson.dumps(spans_of(records))
    # a longer note has too many sources, and is left empty
    return packed if len(packed) <= NOTE_BYTES - LENGTH_BYTES else b"[]"


def read_note(mapped: mmap.mmap) -> list[list[Span]]:
    """Return the records that an ended process worked on; empty for none, and for invalid bytes."""
    length = int.from_bytes(mapped[:LENGTH_BYTES])
    if not 0 < length <= NOTE_BYTES - LENGTH_BYTES:
        return []
    try:
        spans = orjson.loads(mapped[LENGTH_BYTES : LENGTH_BYTES + length])
        found = [(str(source), int(first), int(last), int(stamp)) for source, first, last, stamp in spans]
        return [found] if found else []
    except (ValueError, TypeError):
        return []


def read_known(path: Path) -> KnownEnds:
    try:
        return KnownEnds.unpack(path.read_bytes())
    except FileNotFoundError:
        return KnownEnds()
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        log.error("attempts_unreadable", file=str(path), error=repr(error))
        return KnownEnds()
