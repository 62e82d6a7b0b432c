"""The log of one partition: record batches as the producers sent them, addressed by offset."""

from __future__ import annotations

import asyncio
import struct
from bisect import bisect_right
from dataclasses import dataclass

from aiokafka.record import MemoryRecords
from crc32c import crc32c

# Record batch, magic 2 (Kafka documentation, "Record Batch"): base offset, batch length, leader epoch, magic,
# CRC-32C of all that follows it, attributes, last offset delta, base timestamp, max timestamp, producer id,
# producer epoch, base sequence, record count.
_HEADER = struct.Struct(">qiibIhiqqqhii")
_OFFSET = struct.Struct(">q")
_LENGTH_END_BYTES = 12
_CRC_END_BYTES = 21
_MAGIC = 2
# Dropped batches are cut from the lists in runs, so that retention costs O(1) a batch.
_TRIM_BATCHES = 1024


class CorruptBatchError(ValueError):
    """Bytes that are no record batch of magic 2."""


@dataclass(frozen=True, slots=True)
class Batch:
    last_offset: int
    max_timestamp_ms: int
    appended_ms: int
    data: bytes


class PartitionLog:
    """Offsets run from `start_offset` (inclusive) to `end_offset` (exclusive)."""

    def __init__(self) -> None:
        self.end_offset = 0
        self.size_bytes = 0
        self._start_offset = 0
        self._batches: list[Batch] = []
        self._base_offsets: list[int] = []
        self._dropped = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def begin_at(self, offset: int) -> None:
        """Where the offsets of an empty log begin."""
        self._start_offset = self.end_offset = offset

    @property
    def start_offset(self) -> int:
        return self._start_offset

    @property
    def oldest(self) -> Batch | None:
        """The first batch that is still kept."""
        return self._batches[self._dropped] if self._dropped < len(self._batches) else None

    def append(self, records: bytes, now_ms: int) -> int:
        """Add record batches and wake the readers; the first offset. Raises CorruptBatchError."""
        batches = _split(records)
        first = self.end_offset
        for header, data in batches:
            last_offset_delta, max_timestamp_ms = header[6], header[8]
            # The CRC does not cover the base offset.
            placed = _OFFSET.pack(self.end_offset) + data[_OFFSET.size :]
            self._base_offsets.append(self.end_offset)
            self.end_offset += last_offset_delta + 1
            self._batches.append(Batch(self.end_offset - 1, max_timestamp_ms, now_ms, placed))
            self.size_bytes += len(placed)
        self.wake()
        return first

    def read(self, offset: int, max_bytes: int) -> bytes:
        """Whole batches from the one that holds `offset` on (it may begin earlier): at least one if there is
        any, then as many as fit `max_bytes`."""
        position = max(bisect_right(self._base_offsets, offset) - 1, self._dropped)
        found: list[bytes] = []
        size = 0
        while offset < self.end_offset and position < len(self._batches):
            data = self._batches[position].data
            if found and size + len(data) > max_bytes:
                break
            found.append(data)
            size += len(data)
            position += 1
        return found[0] if len(found) == 1 else b"".join(found)

    def offset_at(self, timestamp_ms: int) -> tuple[int, int] | None:
        """Offset and timestamp of the first record with at least `timestamp_ms`; None if there is none."""
        for batch in self._batches[self._dropped :]:
            if batch.max_timestamp_ms >= timestamp_ms:
                for record in MemoryRecords(batch.data).next_batch():
                    if record.timestamp >= timestamp_ms and record.offset >= self._start_offset:
                        return record.offset, record.timestamp
        return None

    def drop_oldest(self) -> int:
        """Forget the first batch; its size in bytes (0 if the log is empty)."""
        oldest = self.oldest
        if oldest is None:
            return 0
        self._start_offset = max(self._start_offset, oldest.last_offset + 1)
        self.size_bytes -= len(oldest.data)
        self._dropped += 1
        if self._dropped >= _TRIM_BATCHES:
            del self._batches[: self._dropped], self._base_offsets[: self._dropped]
            self._dropped = 0
        else:
            self._batches[self._dropped - 1] = _FORGOTTEN
        return len(oldest.data)

    def drop_before(self, offset: int) -> None:
        """Forget all records before `offset`, which is at most the end."""
        while (oldest := self.oldest) is not None and oldest.last_offset < offset:
            self.drop_oldest()
        self._start_offset = max(self._start_offset, offset)

    def waiter(self) -> asyncio.Future[None]:
        """A future that ends with the next append; hand it back to `forget` when done."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        return future

    def forget(self, waiter: asyncio.Future[None]) -> None:
        self._waiting.discard(waiter)

    def wake(self) -> None:
        """Let all who wait for an append look again."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)


_FORGOTTEN = Batch(-1, -1, -1, b"")


def _split(records: bytes) -> list[tuple[tuple[int, ...], bytes]]:
    """Each batch with its header. Raises CorruptBatchError."""
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
