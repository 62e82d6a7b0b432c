"""Faust tables of minutes: one tumbling window of 60 s per minute, one packed value per (shard, minute).

The windows hold what must survive a restart; the arithmetic of time lives in the pure modules. Faust's own
window handling is used for storage alone:
- Keys are written with their window given, so that a write goes to the candle's minute and not to the time of
  the Kafka record.
- Faust fills its expiry index on writes only, never in recovery: `rearm_expiry` does it after a restart.
- It compares the end of a window with the wall clock. Minutes of a replayed past are therefore dropped from
  the local store soon after they are written, while the changelog keeps them for its retention: a restart
  finds them there, and a running worker has them in its own state.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import faust

from app.candles.batch import MINUTE_MS

RETENTION = timedelta(hours=49)
"""A little above the longest reach back in time, the two days of volume_ratio_1d."""


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

    def write(self, shard: int, open_time_ms: int, packed: bytes) -> None:
        """`shard` must be the partition of the event being processed."""
        window = self._inner.window.current(open_time_ms / 1000)
        self._inner[str(shard), window] = packed

    def items(self) -> Iterator[tuple[int, int, bytes]]:
        """(shard, open_time_ms, packed) of everything stored, in no order."""
        for (shard, window), packed in self._inner.items():
            yield int(shard), round(window[0]) * 1000 // MINUTE_MS * MINUTE_MS, packed

    def rearm_expiry(self) -> None:
        """Gives the recovered minutes back their expiry."""
        for key in list(self._inner.keys()):
            self._inner._maybe_set_key_ttl(self._inner._to_key(key), int(key[0]))
