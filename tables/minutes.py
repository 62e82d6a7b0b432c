"""Faust tables of minutes: one tumbling window of 60 s per minute, one packed value per (shard, minute).

The windows hold the state that must survive a restart; the arithmetic of time lives in the pure modules. Faust's own
window handling is used for storage alone:
- Keys are written with their window given, so that a write goes to the candle's minute and not to the time of
  the Kafka record.
- Faust fills its expiry index on writes only, never in recovery: `rearm_expiry` does it after a restart.
- It compares the end of a window with the wall clock. Minutes of a replayed past are therefore dropped from
  the local store soon after they are written, while the changelog keeps them for its retention: a restart
  finds them there, and a running worker has them in its own state.

The records of the changelog go out in whole batches, when the stage has finished a record: Faust's way costs 60 µs for
each, as much as the computation of a minute of ten symbols, and a record of the past may hold hundreds of minutes.

A value is compressed, since a worker holds two days of them:

    mark (4 bytes) | raw bytes (uint32) | offset (int64) | zstd

offset: of the record that it was written for, in the topic that the stage reads. Recovery keeps the value of the
latest record: a worker that Kafka took for dead may write once more after another one has got further, and its value
would lack the data since. A value with the mark of the version before has no offset, and a value without a mark is of
a still earlier version, and read uncompressed.
"""

from __future__ import annotations

import asyncio
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Final

import faust
import pyarrow as pa
from faust.types import EventT

from app.candles.batch import MINUTE_MS
from app.library_internals import client_of_producer, filter_recovery, rearm_expiry
from app.wire.kafka import send_in_batches
from tables.keys import key_bytes, use_safe_keys

RETENTION = timedelta(hours=49)
"""A little above the longest reach back in time, the two days of volume_ratio_1d."""
_HEAD: Final = struct.Struct("<4sIq")
_MARK: Final = b"SCZ2"
_HEAD_WITHOUT_OFFSET: Final = struct.Struct("<4sI")
_MARK_WITHOUT_OFFSET: Final = b"SCZ1"
_RAW_MAX_BYTES: Final = 64 * 1024 * 1024
"""Far above a minute of 100,000 symbols, so that a damaged length takes no memory."""
_CODEC: Final = pa.Codec("zstd", compression_level=1)


class MinuteTable:
    """A tumbling table of packed minutes. Write only inside an agent, on an event of its shard."""

    def __init__(self, app: faust.App, name: str, partitions: int, **options: Any) -> None:
        retention_ms = int(RETENTION.total_seconds() * 1000)
        self._table = app.Table(
            name,
            value_type=bytes,
            partitions=partitions,
            extra_topic_configs={"retention.ms": retention_ms, "segment.ms": 3_600_000},
            **options,
        ).tumbling(timedelta(minutes=1), expires=RETENTION)
        # the table below the windowed view: typed loosely, since keys with a window are not in Faust's types
        self._inner: Any = self._table.table
        use_safe_keys(self._inner)
        filter_recovery(self._inner, self._latest)
        self._app = app
        self._unsent: defaultdict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
        """Partition -> records for the changelog: (key, value)."""

    def _latest(self, batch: Iterable[EventT[bytes]]) -> list[EventT[bytes]]:
        """Return the records of a changelog, without those older than the known value of their minute."""
        newest: dict[Any, int] = {}
        kept = []
        for event in batch:
            key, offset = _hashable(event.key), offset_of(event.message.value)
            if key not in newest:
                newest[key] = offset_of(self._inner.data.get(key))
            if offset >= newest[key]:
                newest[key] = offset
                kept.append(event)
        return kept

    def write(self, shard: int, open_time_ms: int, packed: bytes) -> None:
        """Store a minute; its record waits for `send`. `shard` must be the partition of the event being processed."""
        key = str(shard), self._inner.window.current(open_time_ms / 1000)
        partition = self._inner.partition_for_key(key)
        event = faust.current_event()
        value = compressed(packed, -1 if event is None else event.message.offset)
        self._unsent[partition].append((key_bytes(key), value))
        self._inner.data[key] = value
        rearm_expiry(self._inner, key, partition)

    async def send(self) -> asyncio.Future[list[Any]] | None:
        """Hand the waiting records to the producer. Return a future that is done when Kafka has them, and fails if it
        does not take them; None if there are none."""
        unsent, self._unsent = self._unsent, defaultdict(list)
        if not unsent:
            return None
        producer, topic = client_of_producer(self._app.producer), self._inner.changelog_topic_name
        stored = []
        for partition, records in unsent.items():
            stored += await send_in_batches(producer, topic, partition, records)
        return asyncio.gather(*stored)

    def read(self, shard: int, open_time_ms: int) -> bytes | None:
        """Return the packed minute; None if there is none."""
        window = self._inner.window.current(open_time_ms / 1000)
        stored: bytes | None = self._inner.get((str(shard), window))
        return None if stored is None else restored(stored)

    def items(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield (shard, open_time_ms, packed) of every stored value, unordered. A damaged value is yielded as it is:
        the reader of the minutes rejects it."""
        for shard, window in self._keys():
            open_time_ms = round(window[0]) * 1000 // MINUTE_MS * MINUTE_MS
            yield int(shard), open_time_ms, restored(self._inner[shard, window])

    def _keys(self) -> list[tuple[str, tuple[float, float]]]:
        """Return the keys that our stages wrote."""
        return [key for key in self._inner if isinstance(key, tuple)]

    def rearm_expiry(self) -> None:
        """Give the recovered minutes back their expiry."""
        for key in self._keys():
            rearm_expiry(self._inner, key, int(key[0]))


def compressed(packed: bytes, offset: int) -> bytes:
    content: bytes = _CODEC.compress(packed, asbytes=True)
    return _HEAD.pack(_MARK, len(packed), offset) + content


def restored(value: bytes) -> bytes:
    """Return the bytes given to `compressed`; any other bytes unchanged."""
    for head, its_mark in ((_HEAD, _MARK), (_HEAD_WITHOUT_OFFSET, _MARK_WITHOUT_OFFSET)):
        if len(value) < head.size:
            continue
        mark, raw_bytes, *_ = head.unpack_from(value)
        if mark != its_mark or raw_bytes > _RAW_MAX_BYTES:
            continue
        try:
            packed: bytes = _CODEC.decompress(value[head.size :], raw_bytes, asbytes=True)
        except (OSError, ValueError):
            return value
        return packed
    return value


def offset_of(value: bytes | None) -> int:
    """Return the offset given to `compressed`; -1 for any other bytes."""
    if value is None or len(value) < _HEAD.size or not value.startswith(_MARK):
        return -1
    offset: int = _HEAD.unpack_from(value)[2]
    return offset


def _hashable(key: Any) -> Any:
    """Return the key of a record as Faust holds it: JSON has no tuples."""
    return (
        tuple(tuple(part) if isinstance(part, list) else part for part in key)
        if isinstance(key, list)
        else key
    )
