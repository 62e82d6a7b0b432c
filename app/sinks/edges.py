"""What the sinks of a process share of the outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from prometheus_client import CollectorRegistry

from app.clock import Clock
from app.database.connection import Pool
from app.process.quarantine import Attempts
from app.wire.barrier import BarrierReports
from app.wire.dead_letters import Send


@dataclass(frozen=True, slots=True)
class SinkEdges:
    """The objects that all sinks of a process share."""

    pool: Pool
    send_letter: Send
    barriers: BarrierReports
    clock: Clock
    stop: asyncio.Event
    attempts: Callable[[str], Attempts]
    """Returns the attempts of a stage."""
    readiness_changed: Callable[[], None]
    """Called when the `ready` of any TopicSink may have changed."""
    registry: CollectorRegistry
    """The registry of the role's metrics."""


def letter_sender(producer: AIOKafkaProducer, topic: str, key: str) -> Send:
    """Return a function that sends a dead letter and waits until Kafka has it."""

    async def send(value: bytes) -> None:
        await producer.send_and_wait(topic, value, key=key.encode(), partition=0)

    return send
