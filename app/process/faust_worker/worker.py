"""A Faust worker made safe: settings with their reasons, health pages, and no quiet loss.

Faust acknowledges a record even when a changelog write that it caused has failed: it logs a warning and commits.
`ExitOnSendError` ends the process instead, so that the record is read again. Frames, alerts and minutes do not go
through Faust's producer (`stage_edges.py`, `tables/minutes.py`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

import faust
import structlog
from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted, ProducerSendError
from faust.types import TP, StreamT, TopicT

from app.clock import SystemClock
from app.errors import PortTaken, ScreenerError
from app.library_internals import committed_offset
from app.process.exit_status import EXIT_CONFIG, EXIT_TEMPORARY, EXIT_UNEXPECTED
from app.process.faust_worker.options import WorkerOptions, faust_settings
from app.process.health.dependencies import Dependency
from app.process.health.process import RolePages, process_health, serve_roles
from app.process.health.signs import SignsOfLife
from app.process.quarantine import is_outage
from app.process.runtime_tuning import avoid_pauses
from app.process.tasks import kept_running
from app.telemetry import PipelineMetrics
from app.telemetry.tracing import configure_tracing, end_tracing
from app.wire.kafka import ensure_topics

if TYPE_CHECKING:
    from faust.tables.manager import TableManager

log = structlog.get_logger("worker")

_LAG_EVERY_S = 5.0
_UNASSIGNED = (ConsumerNotStarted, AssertionError, AttributeError, KeyError, KafkaError)
"""Errors of reading the consumer, which lives in a thread of its own, before it has started and during a
rebalance."""


class WorkerStage(Protocol):
    """A stage of a worker: `agents.stage.Stage`."""

    name: ClassVar[str]
    pipeline: PipelineMetrics
    positions: dict[int, int]
    """Partition -> offset behind the last finished record, for partitions with one since the assignment."""

    async def run(self, stream: StreamT[bytes]) -> None: ...

    def keep_only(self, partitions: Collection[int]) -> None: ...

    def reassign(self, partitions: Collection[int]) -> None: ...


class Companion(Protocol):
    """A service beside the agents of a worker."""

    async def begin(self) -> None:
        """Prepare the service, before the first record is read."""

    async def run(self) -> None:
        """Run until it is cancelled with the worker; an exception ends the worker."""


def fault_of(error: BaseException) -> BaseException:
    """Return the client's error that Faust wraps in its own when a send fails; any other error as it is."""
    wraps = isinstance(error, ProducerSendError) and error.__cause__ is not None
    return error.__cause__ or error if wraps else error


class ExitOnSendError(faust.Sensor):
    """End the process on a send error. A sensor, since Faust replaces monitors and keeps sensors."""

    def on_send_error(self, producer: Any, exc: BaseException, state: Any) -> None:
        log.critical("kafka_send_failed", error=repr(exc))
        os._exit(EXIT_TEMPORARY if is_outage(fault_of(exc)) else EXIT_UNEXPECTED)


class Worker(faust.App):
    """A Faust app that serves /metrics and health from before recovery until it ends."""

    def __init__(
        self,
        name: str,
        options: WorkerOptions,
        pages: Mapping[str, RolePages],
        dependencies: Sequence[Dependency] = (),
    ) -> None:
        """pages: the health pages of each of its roles."""
        self._options = options
        self._pages = pages
        self._dependencies = dependencies
        self._assigned_s = time.monotonic()
        self._with_tables: frozenset[TP] = frozenset()
        """The partitions whose tables Faust recovers, or has recovered."""
        self._lag_task: asyncio.Task[None] | None = None
        self._health = AsyncExitStack()
        self._stages: list[tuple[str, WorkerStage]] = []
        self._companions: list[Companion] = []
        identity = options.kafka.namespace.name(name)
        super().__init__(identity, **faust_settings(identity, options))
        self.sensors.add(ExitOnSendError())
        self.on_partitions_assigned.connect(self._assigned)
        self.on_rebalance_complete.connect(self._rebalanced)

    def attach(self, stage: WorkerStage, reads: TopicT) -> None:
        """Make `stage` the agent of a topic, and tell it after every rebalance which partitions it has."""
        self.agent(reads, name=stage.name, concurrency=1)(stage.run)
        self._stages.append((reads.get_topic_name(), stage))

    def accompany(self, companion: Companion) -> None:
        """Make `companion` begin before the agents and run as long as they do."""
        self._companions.append(companion)

    async def _run_beside(self, companion: Companion) -> None:
        try:
            await companion.run()
        except Exception:
            log.critical("companion_failed", exc_info=True)
            os._exit(EXIT_UNEXPECTED)

    async def _assigned(self, *arguments: Any, **_: Any) -> None:
        """Drop the state of lost partitions. Faust passes the worker and the assigned partitions."""
        self._assigned_s = time.monotonic()
        self._with_tables = frozenset(arguments[1])
        for topic, stage in self._stages:
            stage.keep_only(self._owned(topic))

    def _owned(self, topic: str) -> set[int]:
        return {tp.partition for tp in self._with_tables if tp.topic == topic}

    async def _rebalanced(self, *_: Any, **__: Any) -> None:
        """Rebuild the stages' state from the tables that Faust has recovered.

        The consumer, in its own thread, may have the partitions of a next rebalance by now, whose tables are not
        recovered yet. Faust calls again once they are.
        """
        if cast("TableManager", self.tables).recovery.signal_recovery_start.is_set():
            return
        # From here on Faust fetches the stages' records, and before the rebalance ends it clears their queues: a record
        # that is in a queue by then would never be processed. At the end of the rebalance Faust restarts the flow.
        self.consumer.stop_flow()
        try:
            for topic, stage in self._stages:
                stage.reassign(self._owned(topic))
                recovered = stage.pipeline.recovery_duration.labels(stage=stage.name)
                recovered.observe(time.monotonic() - self._assigned_s)
        except Exception:
            # Faust would swallow it and continue with half a state
            log.critical("restore_failed", exc_info=True)
            os._exit(EXIT_UNEXPECTED)

    def is_ready(self) -> bool:
        """Return whether partitions are assigned and tables recovered."""
        return bool(self.tables.actives_ready) and not self.rebalancing and not self.should_stop

    async def on_first_start(self) -> None:
        log.info(
            "worker_starting", app=self.conf.id, faust=faust.__version__, data_dir=str(self.conf.datadir)
        )
        # Faust makes the last folder of the path only
        self.conf.datadir.mkdir(parents=True, exist_ok=True)
        try:
            # before anything subscribes: a broker may make missing topics itself, with its own defaults
            await ensure_topics(self._options.kafka)
        except ScreenerError as error:
            log.critical("cannot_start", error=str(error))
            os._exit(EXIT_TEMPORARY if error.retryable else EXIT_CONFIG)
        await super().on_first_start()
        configure_tracing(self._options.trace_url, self._options.trace_ratio, self.conf.id)
        avoid_pauses()
        health = await self._health.enter_async_context(
            process_health(
                self._dependencies,
                self.is_ready,
                self._options.data_dir,
                SignsOfLife(self._options.redis, tuple(self._pages), SystemClock()),
            )
        )
        self._lag_task = asyncio.create_task(
            kept_running("consumer-lag", self._note_lag), name="consumer-lag"
        )
        pages = serve_roles(health, self._options.bind_host, self._pages)
        try:
            await self._health.enter_async_context(pages)
        except PortTaken as error:
            log.critical("port_taken", error=str(error))
            os._exit(EXIT_CONFIG)
        for companion in self._companions:
            await companion.begin()
            self.add_future(self._run_beside(companion))

    async def _note_lag(self) -> None:
        """Run until cancelled."""
        while True:
            await asyncio.sleep(_LAG_EVERY_S)
            for topic, stage in self._stages:
                for tp in self._partitions_of(topic):
                    behind = self._records_behind(tp, stage)
                    if behind is not None:
                        stage.pipeline.consumer_lag.labels(stage.name, topic, tp.partition).set(behind)

    def _partitions_of(self, topic: str) -> list[TP]:
        """Return the partitions assigned to this worker."""
        try:
            return [tp for tp in self.consumer.assignment() if tp.topic == topic]
        except _UNASSIGNED:
            return []

    def _records_behind(self, tp: TP, stage: WorkerStage) -> int | None:
        """Return the number of unfinished records of a partition; None before its end is known."""
        try:
            end = self.consumer.highwater(tp)
        except _UNASSIGNED:
            return None
        done = stage.positions.get(tp.partition, committed_offset(self.consumer, tp))
        return None if end is None or done is None else max(0, end - done)

    async def on_stop(self) -> None:
        if self._lag_task:
            self._lag_task.cancel()
            await asyncio.gather(self._lag_task, return_exceptions=True)
        await self._health.aclose()
        await asyncio.to_thread(end_tracing)
        await super().on_stop()
