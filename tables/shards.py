"""Faust tables of one packed value per shard: state that minutes alone cannot restore.

Indicators like an EMA remember every bar since they began, and a rule with `prev` or a crossing remembers the
minute before. A value names its minute, so reading on from an earlier record is
harmless.

A value may be larger than a Kafka record: it is compressed, cut into parts, and either complete or absent.

    key    shard:slot:part
    value  mark (4 bytes) | CRC-32 of the rest | generation (uint64) | part, parts (uint32) | raw bytes (uint64) | piece
Each value is written over the older of two slots, under the next generation, so that a writer that ends between
two parts leaves the value before it whole. Parts of different generations are never put together.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

import faust
import pyarrow as pa

from tables.keys import use_safe_keys

_MARK: Final = b"SCP1"
_CHECK: Final = struct.Struct("<4sI")
_NUMBERS: Final = struct.Struct("<QIIQ")
PIECE_MAX_BYTES: Final = 768 * 1024
"""With header and key a record stays below Kafka's default limit of 1 MB."""
_CODEC: Final = pa.Codec("zstd", compression_level=1)
_SLOTS: Final = (0, 1)


class ShardTable:
    """Write only inside an agent, on an event of the shard's partition."""

    def __init__(self, app: faust.App, name: str, partitions: int, **options: Any) -> None:
        # indicators take 7 KB a symbol, so a large shard's exceed a Kafka record
        table = app.Table(name, value_type=bytes, partitions=partitions, **options)
        use_safe_keys(table)
        self._values = PartedValues(table)

    def write(self, shard: int, packed: bytes) -> None:
        """`shard` must be the partition of the event being processed."""
        self._values.write(shard, packed)

    def items(self) -> Iterator[tuple[int, bytes]]:
        """Yield (shard, packed) of every value stored completely."""
        return self._values.items()


@dataclass(frozen=True, slots=True)
class _Part:
    generation: int
    part: int
    parts: int
    raw_bytes: int
    piece: bytes

    def encode(self) -> bytes:
        body = _NUMBERS.pack(self.generation, self.part, self.parts, self.raw_bytes) + self.piece
        return _CHECK.pack(_MARK, crc32(body)) + body

    @classmethod
    def decode(cls, value: bytes) -> _Part | None:
        """Return None for bytes that `encode` did not write."""
        if len(value) < _CHECK.size + _NUMBERS.size:
            return None
        mark, checksum = _CHECK.unpack_from(value)
        body = value[_CHECK.size :]
        if mark != _MARK or crc32(body) != checksum:
            return None
        generation, part, parts, raw_bytes = _NUMBERS.unpack_from(body)
        return cls(generation, part, parts, raw_bytes, body[_NUMBERS.size :])


@dataclass(frozen=True, slots=True)
class _Slot:
    """The content of a slot: its newest generation, 0 if it is empty, and the present parts."""

    slot: int
    generation: int
    parts: dict[int, _Part]

    @property
    def complete(self) -> bool:
        return bool(self.parts) and len(self.parts) == self.parts[min(self.parts)].parts

    def value(self) -> bytes:
        compressed = b"".join(self.parts[number].piece for number in sorted(self.parts))
        packed: bytes = _CODEC.decompress(compressed, self.parts[0].raw_bytes, asbytes=True)
        return packed


class PartedValues:
    """One value per shard, in parts, in a mapping, for example a Faust table."""

    def __init__(self, table: MutableMapping[str, bytes]) -> None:
        self._table = table

    def write(self, shard: int, packed: bytes) -> None:
        held = [self._read(shard, slot) for slot in _SLOTS]
        newest = _newest(held)
        slot = _SLOTS[0] if newest is None else _SLOTS[1 - newest.slot]
        generation = 1 + max(one.generation for one in held)
        parts = _split(packed, generation)
        for part in parts:
            self._table[f"{shard}:{slot}:{part.part}"] = part.encode()
        beyond = len(parts)
        while (key := f"{shard}:{slot}:{beyond}") in self._table:
            del self._table[key]
            beyond += 1

    def items(self) -> Iterator[tuple[int, bytes]]:
        """Yield (shard, packed) of the newest complete value of each shard that has one."""
        # a key of another form is of another version
        shards = {int(key.split(":")[0]) for key in self._table if _is_ours(key)}
        for shard in sorted(shards):
            newest = _newest([self._read(shard, slot) for slot in _SLOTS])
            if newest is not None:
                yield shard, newest.value()

    def _read(self, shard: int, slot: int) -> _Slot:
        by_generation: defaultdict[int, dict[int, _Part]] = defaultdict(dict)
        number = 0
        while (value := self._table.get(f"{shard}:{slot}:{number}")) is not None:
            part = _Part.decode(value)
            if part is not None and part.part == number:
                by_generation[part.generation][number] = part
            number += 1
        if not by_generation:
            return _Slot(slot, 0, {})
        generation = max(by_generation)
        return _Slot(slot, generation, by_generation[generation])


def _is_ours(key: Any) -> bool:
    return isinstance(key, str) and key.count(":") == 2 and key.replace(":", "").isdecimal()


def _newest(held: list[_Slot]) -> _Slot | None:
    """Return the complete slot of the latest generation, if any."""
    return max((one for one in held if one.complete), key=lambda one: one.generation, default=None)


def _split(packed: bytes, generation: int) -> list[_Part]:
    compressed: bytes = _CODEC.compress(packed, asbytes=True)
    pieces = [
        compressed[start : start + PIECE_MAX_BYTES] for start in range(0, len(compressed), PIECE_MAX_BYTES)
    ]
    return [_Part(generation, at, len(pieces), len(packed), piece) for at, piece in enumerate(pieces)]
