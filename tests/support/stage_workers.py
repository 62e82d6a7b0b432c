"""Processes of `tests.support.stage_worker`."""

from __future__ import annotations

import sys
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.process.children.child import ChildProcess
from app.process.children.supervisor import role_environ
from app.settings import Settings
from app.wire.kafka import client_options
from app.wire.topics import Topics


def stage_worker(settings: Settings, directory: Path) -> ChildProcess:
    """Return a worker that is not started yet. Its log, and the files that control it (`healed`, `slow`, `overlap`),
    are in the directory."""
    files = {f"STAGE_TEST_{name.upper()}": str(directory / name) for name in ("healed", "slow", "overlap")}
    argv = [
        sys.executable,
        "-m",
        "faust",
        "-A",
        "tests.support.stage_worker",
        "worker",
        "--without-web",
        "-l",
        "info",
    ]
    return ChildProcess("echo worker", argv, directory / "worker.log", env=role_environ(settings) | files)


async def committed(settings: Settings) -> int:
    """Return the offset in [ingress] that the worker's group committed; 0 before it committed any."""
    topic = TopicPartition(Topics.of(settings.names()).ingress, 0)
    consumer = AIOKafkaConsumer(
        **client_options(settings.kafka()),
        group_id=settings.name("echo"),
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        consumer.assign([topic])
        return await consumer.committed(topic) or 0
    finally:
        await consumer.stop()


async def is_committed(settings: Settings, offset: int) -> bool:
    return await committed(settings) >= offset
