"""The records of [market]: each sealed minute of all symbols, and the state that the market role continues from.

The key says which kind a record is. `minute:PART/PARTS`: a frame of metrics with the rows of one minute, in parts of at
most 4,000 rows. `position`: JSON, sent after the alerts of a minute. `memory:PART/PARTS`: the memory of the rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import orjson

from app.errors import BadFrame
from app.market.metrics import MetricsBatch
from app.wire.frames import decode_metrics, encode_metrics

Record = tuple[bytes, bytes]
"""(key, value)"""

POSITION_KEY: Final = b"position"
_ROWS_PER_PART: Final = 4_000
_BYTES_PER_PART: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Position:
    """The market role's progress: it has finished everything up to the minute `sealed_ms`, its alerts included.

    resume: partition of [metrics] -> offset from which on there are rows of later minutes. read: partition -> offset
    after the last record that was read. kept_from: offset in [market] from which a start reads, None for its beginning;
    behind it are the newest memory and the minute before it.
    """

    sealed_ms: int
    resume: Mapping[int, int]
    read: Mapping[int, int]
    kept_from: int | None = None

    def encode(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_NON_STR_KEYS)

    @classmethod
    def decode(cls, value: bytes) -> Position:
        """Decode a position. Raises BadFrame for anything that `encode` did not write."""
        try:
            found = orjson.loads(value)
            resume, read = (
                {int(partition): int(offset) for partition, offset in found[name].items()}
                for name in ("resume", "read")
            )
            kept_from = found["kept_from"]
            return cls(int(found["sealed_ms"]), resume, read, None if kept_from is None else int(kept_from))
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadFrame("frame_unreadable", f"unreadable position of the market: {error!r}") from error


def minute_records(rows: MetricsBatch) -> list[Record]:
    """Return the records of one minute's rows."""
    starts = range(0, len(rows), _ROWS_PER_PART)
    parts = (
        [rows.take(slice(start, start + _ROWS_PER_PART)) for start in starts] if len(starts) > 1 else [rows]
    )
    return _numbered(b"minute", [encode_metrics(part) for part in parts])


def memory_records(packed: bytes) -> list[Record]:
    starts = range(0, max(1, len(packed)), _BYTES_PER_PART)
    return _numbered(b"memory", [packed[start : start + _BYTES_PER_PART] for start in starts])


def _numbered(kind: bytes, values: Sequence[bytes]) -> list[Record]:
    return [(b"%s:%d/%d" % (kind, at, len(values)), value) for at, value in enumerate(values)]


class PartsReader:
    """Puts the parts of one kind of record together; parts of an unfinished record are dropped."""

    def __init__(self, kind: bytes) -> None:
        self._kind = kind + b":"
        self._parts: list[bytes] = []

    def take(self, key: bytes | None, value: bytes | None) -> list[bytes] | None:
        """Return all parts once the last of them has come; None before that, and for other records."""
        if not key or not key.startswith(self._kind):
            return None
        at, _, count = key.removeprefix(self._kind).partition(b"/")
        if not (at.isdigit() and count.isdigit()) or value is None:
            return None
        if int(at) == 0:
            self._parts = []
        if int(at) != len(self._parts):
            return None
        self._parts.append(value)
        return self._parts if len(self._parts) == int(count) else None


class MinuteReader:
    """Reads sealed minutes from the records of [market]."""

    def __init__(self) -> None:
        self._parts = PartsReader(b"minute")

    def take(self, key: bytes | None, value: bytes | None) -> tuple[MetricsBatch, ...] | None:
        """Return the parts of a minute once its last record has come; None before that, and for other records. Raises
        BadFrame for an invalid minute."""
        found = self._parts.take(key, value)
        if found is None:
            return None
        parts = tuple(decode_metrics(part)[0] for part in found)
        minutes = {int(part.open_time_ms.min(initial=0)) for part in parts}
        if not all(map(len, parts)) or len(minutes) != 1:
            raise BadFrame("frame_schema", f"a sealed minute of {len(minutes)} minutes, or without rows")
        return parts
