"""Faust tables of one packed value per shard: state that minutes alone cannot give back.

Indicators such as an EMA remember every bar since they began, and a rule with `prev` or a crossing remembers the
minute before. What is written says at which minute it stands, so that reading on from an earlier record is
harmless.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import faust

from tables.parts import PartedValues


class ShardTable:
    """Write only inside an agent, on an event of the shard's partition."""

    def __init__(self, app: faust.App, name: str, partitions: int, **options: Any) -> None:
        # indicators take 7 KB a symbol, so that those of a large shard outgrow a Kafka record
        self._values = PartedValues(app.Table(name, value_type=bytes, partitions=partitions, **options))

    def write(self, shard: int, packed: bytes) -> None:
        """`shard` must be the partition of the event being processed."""
        self._values.write(shard, packed)

    def items(self) -> Iterator[tuple[int, bytes]]:
        """(shard, packed) of everything stored completely."""
        return self._values.items()
