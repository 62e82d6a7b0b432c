"""A Faust worker with one small stage, for tests of the code that all stages share.

The stage writes each record into its table of minutes, delivers it to [candles], and logs which record it follows.
Until the file named by STAGE_TEST_HEALED exists, the records of `POISON` end the process, each in its own way, and
`wait` blocks as if a server were down; once it exists, they are delivered too. Any other record that does not begin
with `ok` is bad input.

While the file named by STAGE_TEST_SLOW exists, the consumer needs as long to seek to its offsets after a recovery as
on a busy machine; then it removes the file.

If the file named by STAGE_TEST_OVERLAP exists when partitions are assigned, the recovery of their tables ends only
after the consumer got the partitions of the next rebalance, and Faust learns of that rebalance only afterwards.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from agents.stage import Stage
from app.clock import SystemClock
from app.errors import BadFrame
from app.process.faust_worker.options import WorkerOptions
from app.process.faust_worker.stage_edges import Edges, StageEdges
from app.process.faust_worker.worker import Worker
from app.process.health.process import RolePages
from app.settings import Settings
from app.telemetry.catalogue import RoleRegistry
from app.wire.topics import Topics
from tables.minutes import MinuteTable
from tests.support.candle_messages import MINUTE_START_MS


class Echo(Stage):
    name = "echo"

    def __init__(self, table: MinuteTable, edges: StageEdges) -> None:
        super().__init__(table, edges)
        self._last: dict[int, bytes] = {}

    async def handle(self, partition: int, data: bytes) -> None:
        if data in POISON and not is_healed():
            await asyncio.sleep(0)
            await POISON[data](partial(self._deliver, partition))
        while data == b"wait" and not is_healed():
            print("waiting", flush=True)
            await asyncio.sleep(0.05)
        if data not in (*POISON, b"wait") and not data.startswith(b"ok"):
            raise BadFrame("frame_unreadable", "no echo for that")
        self.log.info(f"{data!r} follows {self._last.get(partition)!r}")
        await self._deliver(partition, data)
        kept = os.urandom(17 * 1024 * 1024) if data == b"ok heavy" else data
        self._minutes.write(partition, MINUTE_START_MS, kept)
        self._last[partition] = data

    def forget(self, partition: int) -> None:
        self._last.pop(partition, None)

    def restore(self, partitions: Collection[int]) -> None:
        self._minutes.rearm_expiry()
        for shard, open_time_ms, packed in self._minutes.items():
            if shard in partitions:
                self._last[shard] = packed
                self.log.info(f"restored {shard} {open_time_ms}")


Deliver = Callable[[bytes], Awaitable[None]]


async def _raise(_: Deliver) -> None:
    raise RuntimeError("boom")


async def _exit(_: Deliver) -> None:
    os._exit(3)


async def _kill(_: Deliver) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def _send_too_much(deliver: Deliver) -> None:
    await deliver(bytes(17 * 1024 * 1024))


async def _lose_a_server(_: Deliver) -> None:
    raise ConnectionError("nobody listens")


POISON: dict[bytes, Callable[[Deliver], Awaitable[None]]] = {
    b"boom": _raise,
    b"exit": _exit,
    b"kill": _kill,
    b"too much": _send_too_much,
    b"away": _lose_a_server,
}


def is_healed() -> bool:
    return Path(os.environ["STAGE_TEST_HEALED"]).exists()


settings = Settings.load()
topics = Topics.of(settings.names())
registry = RoleRegistry("collector")
app = Worker(
    "echo", WorkerOptions.of(settings), {"collector": RolePages("SCREENER_COLLECTOR_PORT", 0, registry)}
)
edges = Edges(app, settings.kafka(), settings.redis(), settings.data_dir, SystemClock())
table = MinuteTable(app, "echo_minutes", settings.partitions)
app.attach(
    Echo(table, edges.for_stage("echo", registry, writes=topics.candles)), reads=edges.frames(topics.ingress)
)


async def _seek_slowly(*_: object, **__: object) -> None:
    seek, slow = app.consumer.perform_seek, Path(os.environ["STAGE_TEST_SLOW"])

    async def slow_seek() -> None:
        await seek()
        if await asyncio.to_thread(slow.exists):
            # longer than the second that a consumer without partitions sleeps
            await asyncio.sleep(3)
            # a second rebalance may have ended first, and removed the file
            await asyncio.to_thread(slow.unlink, missing_ok=True)

    app.consumer.perform_seek = slow_seek


app.on_rebalance_complete.connect(_seek_slowly, weak=False)


OVERLAP = Path(os.environ["STAGE_TEST_OVERLAP"])


async def _overlap(*_: object, **__: object) -> None:
    # Faust calls its receivers in no fixed order, and the worker's own must run before the recovery goes on: so this
    # one may not wait
    if not OVERLAP.is_file():  # noqa: ASYNC240  # reason: see above
        return
    recovery, tables, assigned = app.tables.recovery, app.tables, app.consumer.assignment()
    complete, rebalance, is_complete = recovery.on_recovery_completed, tables.on_rebalance, asyncio.Event()

    async def complete_late(generation_id: int = 0) -> None:
        recovery.on_recovery_completed = complete
        await asyncio.to_thread(OVERLAP.unlink)
        while app.consumer.assignment() == assigned:
            await asyncio.sleep(0.01)
        await complete(generation_id)
        is_complete.set()

    async def rebalance_late(*arguments: Any) -> None:
        tables.on_rebalance = rebalance
        await is_complete.wait()
        await rebalance(*arguments)

    recovery.on_recovery_completed, tables.on_rebalance = complete_late, rebalance_late


app.on_partitions_assigned.connect(_overlap, weak=False)
