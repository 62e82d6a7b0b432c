"""A Faust worker made safe: settings with their reasons, health pages, and no quiet loss.

Faust acknowledges a record even when the changelog write or the send it caused has failed: it logs a warning
and commits. `ExitOnSendError` ends the process instead, so that the record is read again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, ClassVar, Protocol, cast

import faust
import structlog
from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.transport.consumer import RecordMap
from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.transport.producer import ProducerBuffer
from faust.types import TP, StreamT, TopicT
from faust.types.auth import CredentialsT

from app.errors import PortTaken, ScreenerError
from app.exit_status import EXIT_CONFIG, EXIT_TEMPORARY, EXIT_UNEXPECTED
from app.health.dependencies import Dependency
from app.health.process import process_health, serve_roles
from app.kafka import REQUEST_MAX_BYTES, ensure_topics
from app.kafka_access import kafka_access
from app.observe import configure_logging, log_handler
from app.pauses import avoid_pauses
from app.settings import Settings
from app.telemetry import pipeline_metrics
from app.tracing import configure_tracing, end_tracing

# Faust stalls in a flush, with a warning each, above 100 buffered changelog writes; a frame can cause more.
ProducerBuffer.max_messages = 20_000


class SnapshotConsumer(Consumer):
    """Asks for the partitions that were active when it asked.

    Faust hands its own, changing set to the thread that fetches. When recovery pauses the changelogs in between,
    the set is empty by then, aiokafka takes that for every partition, and Faust drops what comes of the others.
    Faust goes back to committed offsets afterwards, so without any (a worker that died before its first commit)
    all those records would never be processed.
    """

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109  # reason: Faust's signature
    ) -> RecordMap:
        wanted = None if active_partitions is None else set(active_partitions)
        return await super()._getmany(wanted, timeout)


Transport.Consumer = SnapshotConsumer

log = structlog.get_logger("worker")

_LAG_EVERY_S = 5.0
_UNASSIGNED = (ConsumerNotStarted, AssertionError, AttributeError, KeyError, KafkaError)
"""What asking the consumer raises, which lives in a thread of its own, until it has started and in the middle of a
rebalance."""

HealthPorts = Mapping[str, tuple[str, int]]
"""Role -> (name of the setting, port)."""


class Stage(Protocol):
    """What a worker runs: `agents.stage.Stage`."""

    name: ClassVar[str]
    positions: dict[int, int]
    """Partition -> offset behind the last record that is done with, of those done with since the assignment."""

    async def run(self, stream: StreamT[bytes]) -> None: ...

    def reassign(self, partitions: Collection[int]) -> None: ...


class Companion(Protocol):
    """What runs beside the agents of a worker."""

    async def begin(self) -> None:
        """Done before the first record is read."""

    async def run(self) -> None:
        """Until it is cancelled with the worker; an exception ends the worker."""


class ExitOnSendError(faust.Sensor):
    """A sensor of its own: monitors are replaced, sensors stay."""

    def on_send_error(self, producer: Any, exc: BaseException, state: Any) -> None:
        log.critical("kafka_send_failed", error=repr(exc))
        os._exit(EXIT_TEMPORARY)


class Worker(faust.App):
    """A Faust app that serves /metrics and health from before recovery until it ends."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        health_ports: HealthPorts,
        dependencies: Sequence[Dependency] = (),
    ) -> None:
        self._screener_settings = settings
        self._health_ports = health_ports
        self._dependencies = dependencies
        self._assigned_s = time.monotonic()
        self._lag_task: asyncio.Task[None] | None = None
        self._health = AsyncExitStack()
        self._stages: list[tuple[str, Stage]] = []
        self._companions: list[Companion] = []
        super().__init__(settings.name(name), **_faust_settings(name, settings))
        self.sensors.add(ExitOnSendError())
        self.on_partitions_assigned.connect(self._assigned)
        self.on_rebalance_complete.connect(self._rebalanced)

    def attach(self, stage: Stage, reads: TopicT) -> None:
        """Makes `stage` the agent of a topic, and tells it after every rebalance which partitions it has."""
        self.agent(reads, name=stage.name, concurrency=1)(stage.run)
        self._stages.append((reads.get_topic_name(), stage))

    def accompany(self, companion: Companion) -> None:
        """Has `companion` begin before the agents and run as long as they do."""
        self._companions.append(companion)

    async def _run_beside(self, companion: Companion) -> None:
        try:
            await companion.run()
        except Exception:
            log.critical("companion_failed", exc_info=True)
            os._exit(EXIT_UNEXPECTED)

    async def _assigned(self, *_: Any, **__: Any) -> None:
        self._assigned_s = time.monotonic()

    async def _rebalanced(self, *_: Any, **__: Any) -> None:
        try:
            assignment = self.consumer.assignment()
            for topic, stage in self._stages:
                stage.reassign({tp.partition for tp in assignment if tp.topic == topic})
                recovered = pipeline_metrics().recovery_duration.labels(stage=stage.name)
                recovered.observe(time.monotonic() - self._assigned_s)
        except Exception:
            # Faust would swallow it and go on with half a state
            log.critical("restore_failed", exc_info=True)
            os._exit(EXIT_UNEXPECTED)

    def is_ready(self) -> bool:
        """Partitions are assigned and tables recovered."""
        return bool(self.tables.actives_ready) and not self.rebalancing and not self.should_stop

    async def on_first_start(self) -> None:
        # Faust makes the last folder of the path only
        self.conf.datadir.mkdir(parents=True, exist_ok=True)
        try:
            # before anything subscribes: a broker may make missing topics itself, with its own defaults
            await ensure_topics(self._screener_settings)
        except ScreenerError as error:
            log.critical("cannot_start", error=str(error))
            os._exit(EXIT_TEMPORARY if error.retryable else EXIT_CONFIG)
        await super().on_first_start()
        configure_tracing(self._screener_settings, self.conf.id)
        avoid_pauses()
        health = await self._health.enter_async_context(
            process_health(self._dependencies, self.is_ready, self._screener_settings.data_dir)
        )
        self._lag_task = asyncio.create_task(self._note_lag(), name="consumer-lag")
        pages = serve_roles(health, self._screener_settings.bind_host, self._health_ports)
        try:
            await self._health.enter_async_context(pages)
        except PortTaken as error:
            log.critical("port_taken", error=str(error))
            os._exit(EXIT_CONFIG)
        for companion in self._companions:
            await companion.begin()
            self.add_future(self._run_beside(companion))

    async def _note_lag(self) -> None:
        """Never returns; ends by cancellation."""
        lag = pipeline_metrics().consumer_lag
        while True:
            await asyncio.sleep(_LAG_EVERY_S)
            for topic, stage in self._stages:
                for tp in self._partitions_of(topic):
                    behind = self._records_behind(tp, stage)
                    if behind is not None:
                        lag.labels(stage.name, topic, tp.partition).set(behind)

    def _partitions_of(self, topic: str) -> list[TP]:
        """Those assigned to this worker."""
        try:
            return [tp for tp in self.consumer.assignment() if tp.topic == topic]
        except _UNASSIGNED:
            return []

    def _records_behind(self, tp: TP, stage: Stage) -> int | None:
        """Records of a partition not done with; None before its end is known."""
        try:
            end = self.consumer.highwater(tp)
        except _UNASSIGNED:
            return None
        done = stage.positions.get(tp.partition, cast(Any, self.consumer)._committed_offset.get(tp))
        return None if end is None or done is None else max(0, end - done)

    async def on_stop(self) -> None:
        if self._lag_task:
            self._lag_task.cancel()
            await asyncio.gather(self._lag_task, return_exceptions=True)
        await self._health.aclose()
        await asyncio.to_thread(end_tracing)
        await super().on_stop()


def _faust_settings(name: str, settings: Settings) -> dict[str, Any]:
    servers = settings.server_urls().kafka.split(",")
    return {
        "broker": [f"kafka://{server}" for server in servers],
        "broker_credentials": _credentials(settings),
        "datadir": settings.data_dir / "faust" / settings.name(name),
        "version": 1,
        "store": "memory://",
        "key_serializer": "raw",
        "value_serializer": "raw",
        "topic_partitions": settings.partitions,
        "topic_replication_factor": settings.replication_factor,
        "topic_disable_leader": True,
        "table_standby_replicas": 0,
        "table_cleanup_interval": 60.0,
        "consumer_auto_offset_reset": "earliest",
        # small fetches (a larger record comes alone) give the three agents of one worker equal turns; with large
        # ones the records of the last stage waited seconds behind those of the first
        "consumer_max_fetch_size": 1024 * 1024,
        # records are frames of up to four thousand rows: a deep buffer would only hold memory
        "stream_buffer_maxsize": 16,
        # a dead member holds its partitions for so long; and the embedded broker delays every join by half
        "broker_session_timeout": 6.0,
        "broker_heartbeat_interval": 2.0,
        "broker_rebalance_timeout": 20.0,
        "broker_request_timeout": 30.0,
        "broker_commit_interval": 1.0,
        # committing by count blocks the loop that reads; the interval suffices
        "broker_commit_every": 1_000_000,
        "producer_linger": 0.0,
        "producer_max_batch_size": 1024 * 1024,
        "producer_max_request_size": REQUEST_MAX_BYTES,
        "producer_request_timeout": 30.0,
        "stream_wait_empty": True,
        "web_enabled": False,
        "logging_config": _logging_config(settings),
    }


def _credentials(settings: Settings) -> CredentialsT | None:
    """As app.kafka_access has them, in Faust's terms."""
    access = kafka_access(settings)
    tls = access.get("ssl_context")
    if "sasl_mechanism" in access:
        return faust.SASLCredentials(
            username=access["sasl_plain_username"],
            password=access["sasl_plain_password"],
            mechanism=access["sasl_mechanism"],
            ssl_context=tls,
        )
    return faust.SSLCredentials(context=tls) if tls else None


def _logging_config(settings: Settings) -> dict[str, Any]:
    """Faust clears the root logger's handlers at start; this gives it ours."""
    configure_logging(settings.log_level, settings.log_format)
    logging.getLogger("faust").setLevel(logging.WARNING)
    logging.getLogger("mode").setLevel(logging.WARNING)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"screener": {"()": log_handler, "log_format": settings.log_format}},
        "root": {"level": settings.log_level.upper(), "handlers": ["screener"]},
    }
