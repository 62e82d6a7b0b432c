"""Measures the plain implementations, from the first candle on NATS to the last alert read from Kafka."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import orjson
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.partitioner import DefaultPartitioner

from app.candles.batch import MINUTE_MS, CandleBatch
from app.cli.servers import urls_of
from app.settings import Settings
from app.wire.kafka import client_options
from app.wire.nats.publish import candle_publisher
from app.wire.nats.stream import stream_name
from benchmarks.measure import Alert, Processes, Result, processes

_END = "END"
_TOPICS = ("plain-ingress", "plain-candles", "plain-metrics", "plain-alerts", "plain-dead-letters")


@dataclass(frozen=True)
class PlainLibrary:
    name: str
    arguments: tuple[str, ...]
    """Python's arguments to run a worker, which reads the rest from PLAIN_* variables."""


# fmt: off
FAUST = PlainLibrary(
    "plain Faust",
    # at the default level, warn, Faust's spinner makes Python format every debug message of aiokafka
    (
        "-m", "faust", "--quiet", "-A", "benchmarks.plain_faust.app", "-L", "uvloop",
        "worker", "-l", "info", "--without-web",
    ),
)
# fmt: on
QUIX = PlainLibrary("plain Quix Streams", ("-m", "benchmarks.plain_quix.app"))


async def measure_plain(
    library: PlainLibrary,
    settings: Settings,
    candles: CandleBatch,
    *,
    workers: int,
    servers: Mapping[str, psutil.Process],
) -> Result:
    """Run `workers` processes, each with all three stages, and one bridge.

    The clock starts with the first candle published, once all processes have passed on an end mark, and stops when the
    alert stage has passed on the end marks that follow the last candle, on every partition.
    """
    await _create_topics(settings, workers)
    with processes(servers, settings.data_dir) as running:
        _start(library, running, settings, workers)
        consumer = AIOKafkaConsumer(**client_options(settings.kafka()), auto_offset_reset="earliest")
        consumer.assign([TopicPartition("plain-alerts", partition) for partition in range(workers)])
        await consumer.start()
        try:
            async with candle_publisher(settings.nats(), "benchmark") as publisher:
                first_ms = int(candles.open_time_ms.min())
                await publisher.publish(_end_marks(first_ms, workers))
                await _read_until_end(consumer, first_ms, workers, running)
                running.start_clock()
                began_s = time.perf_counter()
                await publisher.publish(candles)
                last_ms = int(candles.open_time_ms.max()) + MINUTE_MS
                await publisher.publish(_end_marks(last_ms, workers))
                alerts = await _read_until_end(consumer, last_ms, workers, running)
                seconds = time.perf_counter() - began_s
                cpu_s = running.cpu_s()
        finally:
            await consumer.stop()
    return Result(f"{library.name}, workers: {workers}", len(candles), seconds, alerts, cpu_s)


async def _create_topics(settings: Settings, partitions: int) -> None:
    admin = AIOKafkaAdminClient(**client_options(settings.kafka()))
    await admin.start()
    try:
        # Quix Streams reads these configs, and the embedded broker reports no defaults
        configs = {"retention.ms": "604800000", "retention.bytes": "-1", "cleanup.policy": "delete"}
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs) for name in _TOPICS])
    finally:
        await admin.close()


def _start(library: PlainLibrary, running: Processes, settings: Settings, workers: int) -> None:
    urls = urls_of(settings)
    environ = os.environ | {"PLAIN_KAFKA_URL": str(urls["kafka"]), "PLAIN_PARTITIONS": str(workers)}
    for number in range(1, workers + 1):
        state = {"PLAIN_STATE_DIR": str(settings.data_dir / f"worker-{number}")}
        running.start(f"worker {number}", list(library.arguments), environ | state)
    bridge = ["-m", "benchmarks.plain_faust.bridge", str(urls["nats"]), stream_name(settings.names())]
    running.start("bridge", [*bridge, settings.name("candles.>"), str(urls["kafka"])], environ)


def _end_marks(open_time_ms: int, partitions: int) -> CandleBatch:
    """Return an end mark for each partition: a candle whose symbol makes the alert stage pass it on."""
    choose = DefaultPartitioner()
    everyone = list(range(partitions))
    symbols: dict[int, str] = {}
    number = 0
    while len(symbols) < partitions:
        symbol = f"{_END}{number}"
        symbols.setdefault(choose(symbol.encode(), everyone, everyone), symbol)
        number += 1
    one = np.ones(partitions)
    return CandleBatch(
        symbols=tuple(symbols.values()),
        symbol_index=np.arange(partitions, dtype=np.int32),
        open_time_ms=np.full(partitions, open_time_ms),
        open=one, high=one, low=one, close=one, volume=one, quote_volume=one,
        trades=np.ones(partitions, dtype=np.int64),
        taker_buy_volume=one * np.nan, taker_buy_quote_volume=one * np.nan,
        quote_estimated=np.zeros(partitions, dtype=np.bool_),
        closed=np.ones(partitions, dtype=np.bool_),
        event_ts_ms=np.full(partitions, open_time_ms + MINUTE_MS),
        ingest_ts_ms=np.full(partitions, open_time_ms + MINUTE_MS),
    )  # fmt: skip


async def _read_until_end(
    consumer: AIOKafkaConsumer, end_ms: int, partitions: int, running: Processes
) -> set[Alert]:
    """Return the alerts up to the end marks of `end_ms` on all partitions."""
    alerts: set[Alert] = set()
    ended = 0
    while ended < partitions:
        running.require_alive()
        batches = await consumer.getmany(timeout_ms=500)
        for record in (record for records in batches.values() for record in records):
            alert = orjson.loads(record.value)
            if alert["rule_type"] != _END:
                alerts.add((alert["rule_type"], alert["symbol"], alert["open_time"]))
            elif alert["open_time"] == end_ms:
                ended += 1
    return alerts
