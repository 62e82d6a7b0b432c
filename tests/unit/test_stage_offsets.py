"""When the offset of a record may be committed: once the work that it left behind is done."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any, cast

from faust.types.tuples import TP, Message
from prometheus_client import CollectorRegistry

from agents.stage import Stage
from app.clock import ManualClock
from app.process.faust_worker.stage_edges import StageEdges
from app.process.quarantine import Attempts
from app.telemetry import pipeline_metrics
from app.wire.dead_letters import DeadLetters
from tests.support.eventually import eventually

REGISTRY = CollectorRegistry()


class Minutes:
    """Of a table, as far as `run` uses one: `on_their_way` stands for the minutes of the next records."""

    def __init__(self) -> None:
        self.on_their_way: asyncio.Future[Any] | None = None

    async def send(self) -> asyncio.Future[Any] | None:
        return self.on_their_way


class Leaving(Stage):
    """Leaves work behind for records with a value, until `may_end`."""

    name = "leaving"

    def __init__(self, edges: StageEdges) -> None:
        self.minutes = Minutes()
        super().__init__(cast(Any, self.minutes), edges)
        self.may_end = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    @property
    def left_behind(self) -> asyncio.Task[None] | None:
        return self._work

    async def handle(self, partition: int, data: bytes) -> None:
        self._work = asyncio.create_task(self._write(data)) if data else None

    def forget(self, partition: int) -> None: ...

    def restore(self, partitions: Collection[int]) -> None: ...

    async def _write(self, data: bytes) -> None:
        await self.may_end.wait()
        if data == b"fails":
            raise ZeroDivisionError


class Event:
    """Of Faust, as far as a stage uses one: its stream acknowledges it when the next is asked for."""

    def __init__(self, offset: int, value: bytes, committable: list[int]) -> None:
        self.value = value
        self.message = Message("topic", 0, offset, 0.0, 0, {}, b"", value, None, 0, 0, TP("topic", 0))
        self.message.incref()
        self._committable = committable

    def ack(self) -> bool:
        if not self.message.decref():
            self._committable.append(self.message.offset)
        return True


class Stream:
    def __init__(self, *values: bytes) -> None:
        self.committable: list[int] = []
        self._values = values

    async def events(self) -> AsyncIterator[Event]:
        for offset, value in enumerate(self._values):
            event = Event(offset, value, self.committable)
            yield event
            event.ack()


def stage() -> Leaving:
    nothing: Any = None
    clock, metrics = ManualClock(0), pipeline_metrics(REGISTRY)
    letters = DeadLetters("x", nothing, clock, metrics)
    leaving = Leaving(
        StageEdges(nothing, letters, nothing, Attempts(Path(os.devnull), "x", metrics), clock, REGISTRY)
    )
    leaving.reassign({0})
    return leaving


async def test_an_offset_waits_for_the_work_that_its_record_left_behind():
    leaving, stream = stage(), Stream(b"leaves", b"")
    await leaving.run(cast(Any, stream))
    assert stream.committable == [1]
    leaving.may_end.set()
    await eventually(lambda: sorted(stream.committable) == [0, 1])


async def test_the_offset_of_a_record_whose_work_failed_is_never_committed():
    leaving, stream = stage(), Stream(b"fails", b"leaves")
    leaving.may_end.set()
    await leaving.run(cast(Any, stream))
    await eventually(lambda: stream.committable == [1])


async def test_an_offset_waits_until_kafka_has_the_minutes_of_its_record():
    leaving, stream = stage(), Stream(b"", b"")
    leaving.minutes.on_their_way = asyncio.get_running_loop().create_future()
    await leaving.run(cast(Any, stream))
    assert stream.committable == []
    leaving.minutes.on_their_way.set_result(None)
    await eventually(lambda: sorted(stream.committable) == [0, 1])
