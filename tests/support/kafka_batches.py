"""Kafka record batches, encoded and decoded by aiokafka."""

from __future__ import annotations

from aiokafka.record import MemoryRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder


def batch_of(values: list[bytes], timestamp_ms: int = 0, key: bytes | None = None) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    for number, value in enumerate(values):
        builder.append(number, timestamp_ms + number, key, value, [])
    return bytes(builder.build())


def records_in(data: bytes) -> list[tuple[int, bytes, int]]:
    """Return (offset, value, timestamp) of every record."""
    found = []
    records = MemoryRecords(data)
    while records.has_next():
        found += [(one.offset, one.value, one.timestamp) for one in records.next_batch()]
    return found
