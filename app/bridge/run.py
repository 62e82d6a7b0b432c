"""The role `bridge`: candles from NATS into frames on Kafka.

Its messages become frames (`translation.py`), which are delivered in the order of NATS (`delivery.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from app.bridge.delivery import Bridge
from app.bridge.translation import STAGE, BridgeOptions
from app.clock import Clock
from app.process.quarantine import Attempts
from app.process.tasks import ended, kept_running
from app.settings import Settings
from app.telemetry import nats_metrics, pipeline_metrics
from app.telemetry.catalogue import RoleRegistry
from app.wire.kafka import ensure_topics, kafka_producer
from app.wire.nats.progress import note_pending
from app.wire.nats.pull import CandlePull
from app.wire.nats.stream import connect

log = structlog.get_logger(STAGE)


async def run_bridge(
    settings: Settings,
    clock: Clock,
    registry: RoleRegistry,
    stop: asyncio.Event,
    on_ready: Callable[[bool], None] | None = None,
) -> None:
    """Run the `bridge` role until `stop` is set; tell `on_ready` whether it can take messages."""
    nats, kafka = settings.nats(), settings.kafka()
    options = BridgeOptions(
        namespace=settings.names(),
        partitions=settings.partitions,
        exchange=settings.exchange,
        message_max_bytes=settings.message_max_bytes,
        frame_max_rows=settings.frame_max_rows,
    )
    attempts = Attempts(settings.data_dir, settings.name(STAGE), pipeline_metrics(registry), in_order=False)
    attempts.open()
    client = await connect(nats.url, STAGE)
    try:
        await ensure_topics(kafka)
        async with kafka_producer(kafka) as producer:
            pull = CandlePull(
                client,
                nats.namespace,
                capacity=4 * options.batch_max_messages,
                frame_max_delay_ms=settings.frame_max_delay_ms,
                replicas=nats.replicas,
            )
            await pull.open(stop)
            log.info("bridge_started", stream=settings.name("candles"), partitions=settings.partitions)
            # polls the server, because a bridge that waits for Kafka fetches no batch that could tell
            noting = asyncio.create_task(
                kept_running(
                    "nats-pending", lambda: note_pending(client, nats.namespace, nats_metrics(registry))
                ),
                name="nats-pending",
            )
            try:
                await Bridge(pull, producer, options, clock, attempts, registry).run(stop, on_ready)
            finally:
                await ended(noting)
            await pull.release()
    finally:
        attempts.close()
        await client.close()
