"""The log of one partition: record batches as the producers sent them, addressed by offset.

The batches are in files; those of a compacted topic are in memory, since it keeps only the last record of each key.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from bisect import bisect_right
from dataclasses import dataclass

from aiokafka.record import MemoryRecords
from crc32c import crc32c

from app.local.broker.segments import Piece, Segments

log = logging.getLogger(__name__)

# Record batch, magic 2 (Kafka documentation, "Record Batch"): base offset, batch length, leader epoch, magic,
# CRC-32C of all that follows it, attributes, last offset delta, base timestamp, max timestamp, producer id,
# producer epoch, base sequence, record count.
_HEADER = struct.Struct(">qiibIhiqqqhii")
_OFFSET = struct.Struct(">q")
_LENGTH_END_BYTES = 12
_CRC_END_BYTES = 21
_MAGIC = 2
# As Apache Kafka does, a log is compacted when half of it may be superseded; a short one is not worth the pass.
_COMPACT_FROM_BYTES = 1024 * 1024
# Dropped batches are cut from the lists many at a time, so that retention costs O(1) per batch.
_TRIM_BATCHES = 1024


class CorruptBatchError(ValueError):
    """Bytes that are no record batch of magic 2."""


@dataclass(frozen=True, slots=True)
class Batch:
    last_offset: int
    max_timestamp_ms: int
    appended_ms: int
    size_bytes: int
    stored: bytes | Piece
    keys: tuple[bytes | None, ...] = ()
    """The keys of its records in a compacted log; empty in other logs."""

    @property
    def data(self) -> bytes:
        """The batch as a reader gets it. Raises OSError."""
        return self.stored if isinstance(self.stored, bytes) else self.stored.read()


class PartitionLog:
    """Offsets run from `start_offset` (inclusive) to `end_offset` (exclusive)."""

    def __init__(self, segments: Segments | None = None, *, compacts: bool = False) -> None:
        self._segments = segments
        self._compacts = compacts
        self._compacted_bytes = 0
        self._in_memory = False
        self.end_offset = 0
        self.size_bytes = 0
        self._start_offset = 0
        self._batches: list[Batch] = []
        self._base_offsets: list[int] = []
        self._dropped = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def begin_at(self, offset: int) -> None:
        """Set the first offset of an empty log."""
        self._start_offset = self.end_offset = offset

    @property
    def start_offset(self) -> int:
        return self._start_offset

    @property
    def oldest(self) -> Batch | None:
        """The first batch that is still kept."""
        return self._batches[self._dropped] if self._dropped < len(self._batches) else None

    def append(self, records: bytes, now_ms: int) -> int:
        """Add record batches, wake the readers, and return the first offset. Raises CorruptBatchError."""
        batches = _split(records)
        first = self.end_offset
        for header, data in batches:
            last_offset_delta, max_timestamp_ms = header[6], header[8]
            # The CRC does not cover the base offset.
            placed = _OFFSET.pack(self.end_offset) + data[_OFFSET.size :]
            self._base_offsets.append(self.end_offset)
            self.end_offset += last_offset_delta + 1
            keys = _keys(placed) if self._compacts else ()
            batch = Batch(
                self.end_offset - 1, max_timestamp_ms, now_ms, len(placed), self._store(placed), keys
            )
            self._batches.append(batch)
            self.size_bytes += batch.size_bytes
        self.wake()
        return first

    def _store(self, data: bytes) -> bytes | Piece:
        if self._segments is None or self._compacts:
            return data
        try:
            piece = self._segments.put(data)
        except OSError as error:
            # a full disk: keep the batches in memory, as far as it goes
            if not self._in_memory:
                log.warning("records stay in memory: %s", error)
            self._in_memory = True
            return data
        self._in_memory = False
        return piece

    def compact(self) -> None:
        """If superseded batches may be half of the log, drop them: a batch is superseded when each of its records has
        a newer one with the same key. The last batch stays, so that the end can be read."""
        if not self._compacts or self.size_bytes < 2 * self._compacted_bytes + _COMPACT_FROM_BYTES:
            return
        kept: list[Batch] = []
        seen: set[bytes] = set()
        for batch in reversed(self._batches[self._dropped :]):
            if not kept or any(key is None or key not in seen for key in batch.keys):
                kept.append(batch)
            seen.update(key for key in batch.keys if key is not None)
        kept.reverse()
        self._batches, self._dropped = kept, 0
        self._base_offsets = [_OFFSET.unpack_from(batch.data)[0] for batch in kept]
        self.size_bytes = self._compacted_bytes = sum(batch.size_bytes for batch in kept)

    def holds_bytes(self, offset: int, most: int) -> int:
        """Return how many bytes can be read from an offset on; stop counting at `most`."""
        size = 0
        for position in range(self._position(offset), len(self._batches)):
            size += self._batches[position].size_bytes
            if size >= most:
                return most
        return size

    def _position(self, offset: int) -> int:
        """Return the position of the batch that contains the offset, or else the first record after it."""
        position = max(bisect_right(self._base_offsets, offset) - 1, self._dropped)
        if position < len(self._batches) and self._batches[position].last_offset < offset:
            position += 1  # compaction dropped the batch that contained it
        return position

    def read(self, offset: int, max_bytes: int) -> bytes:
        """Return whole batches, from the one that contains `offset` on (it may begin earlier): at least one if there
        is any, then as many as fit into `max_bytes`."""
        position = self._position(offset)
        found: list[bytes] = []
        size = 0
        while offset < self.end_offset and position < len(self._batches):
            batch = self._batches[position]
            if found and size + batch.size_bytes > max_bytes:
                break
            found.append(batch.data)
            size += batch.size_bytes
            position += 1
        return found[0] if len(found) == 1 else b"".join(found)

    def offset_at(self, timestamp_ms: int) -> tuple[int, int] | None:
        """Return offset and timestamp of the first record at or after `timestamp_ms`; None if there is none."""
        for batch in self._batches[self._dropped :]:
            if batch.max_timestamp_ms >= timestamp_ms:
                for record in MemoryRecords(batch.data).next_batch():
                    if record.timestamp >= timestamp_ms and record.offset >= self._start_offset:
                        return record.offset, record.timestamp
        return None

    def drop_oldest(self) -> int:
        """Drop the first batch, and return its size in bytes (0 if the log is empty)."""
        oldest = self.oldest
        if oldest is None:
            return 0
        self._start_offset = max(self._start_offset, oldest.last_offset + 1)
        self.size_bytes -= oldest.size_bytes
        self._dropped += 1
        if self._dropped >= _TRIM_BATCHES:
            del self._batches[: self._dropped], self._base_offsets[: self._dropped]
            self._dropped = 0
        else:
            self._batches[self._dropped - 1] = _FORGOTTEN
        return oldest.size_bytes

    def drop_before(self, offset: int) -> None:
        """Drop all records before `offset`, which is at most the end."""
        while (oldest := self.oldest) is not None and oldest.last_offset < offset:
            self.drop_oldest()
        self._start_offset = max(self._start_offset, offset)

    def waiter(self) -> asyncio.Future[None]:
        """Return a future that completes at the next append; pass it to `forget` when done."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        return future

    def forget(self, waiter: asyncio.Future[None]) -> None:
        self._waiting.discard(waiter)

    def wake(self) -> None:
        """Complete the futures of all waiters, so that they look again."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)


_FORGOTTEN = Batch(-1, -1, -1, 0, b"")


def _keys(batch: bytes) -> tuple[bytes | None, ...]:
    return tuple(record.key for record in MemoryRecords(batch).next_batch())


def _split(records: bytes) -> list[tuple[tuple[int, ...], bytes]]:
    """Return each batch with its header. Raises CorruptBatchError."""
    batches = []
    position = 0
    while position < len(records):
        if len(records) - position < _HEADER.size:
            raise CorruptBatchError("shorter than a batch header")
        header = _HEADER.unpack_from(records, position)
        end = position + _LENGTH_END_BYTES + header[1]
        data = records[position:end]
        if header[3] != _MAGIC:
            raise CorruptBatchError(f"magic {header[3]}, not {_MAGIC}")
        if len(data) < _HEADER.size or end > len(records) or header[6] < 0:
            raise CorruptBatchError("cut off")
        if crc32c(memoryview(data)[_CRC_END_BYTES:]) != header[4]:
            raise CorruptBatchError("checksum differs")
        batches.append((header, data))
        position = end
    if not batches:
        raise CorruptBatchError("empty")
    return batches
