"""A Faust worker with one small stage, for tests of what all stages share.

The stage writes each record into its table of minutes and delivers it to [candles]. The record `boom`
fails, until the file named by STAGE_TEST_HEALED exists; what does not begin with `ok` is bad input.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from agents.stage import Stage
from app.clock import SystemClock
from app.errors import BadFrame
from app.settings import Settings
from app.topics import Topics
from app.worker import Worker
from app.worker_edges import Edges
from tables.minutes import MinuteTable
from tests.support.candle_messages import MINUTE_START_MS


class Echo(Stage):
    name = "echo"

    def __init__(self, table: MinuteTable, **edges: Any) -> None:
        super().__init__(**edges)
        self._table = table

    async def handle(self, partition: int, data: bytes) -> None:
        if data == b"boom" and not is_healed():
            raise RuntimeError("boom")
        if data != b"boom" and not data.startswith(b"ok"):
            raise BadFrame("frame_unreadable", "no echo for that")
        await self._deliver(partition, data)
        self._table.write(partition, MINUTE_START_MS, data)

    def forget(self, partition: int) -> None:
        """Its state is the table."""

    def restore(self, partitions: Collection[int]) -> None:
        self._table.rearm_expiry()
        for shard, open_time_ms, packed in self._table.items():
            print(f"restored {shard} {open_time_ms} {packed.decode()}", flush=True)


def is_healed() -> bool:
    return Path(os.environ["STAGE_TEST_HEALED"]).exists()


settings = Settings.load()
topics = Topics.of(settings)
app = Worker("echo", settings, {"collector": ("SCREENER_COLLECTOR_PORT", 0)})
edges = Edges(app, settings, SystemClock())
table = MinuteTable(app, "echo_minutes", settings.partitions)
app.attach(Echo(table, **edges.for_stage("echo", writes=topics.candles)), reads=edges.frames(topics.ingress))
