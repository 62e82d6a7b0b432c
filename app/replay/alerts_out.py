"""Collecting the alerts of a replay from the [alerts] topic, each once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.barrier import Barrier
from app.database.stored_alert import parse_alert
from app.errors import BadInput
from app.kafka_access import kafka_access
from app.settings import Settings
from app.topics import Topics


async def collect_alerts(settings: Settings, barrier: str) -> list[dict[str, Any]]:
    """All alerts before `barrier`, in order of seq, a repeated id left out; `seq` is added."""
    topic = TopicPartition(Topics.of(settings).alerts, 0)
    consumer = AIOKafkaConsumer(
        **kafka_access(settings),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    await consumer.start()
    try:
        consumer.assign([topic])
        await consumer.seek_to_beginning(topic)
        found: dict[str, dict[str, Any]] = {}
        passed: set[int] = set()
        while len(passed) < settings.partitions:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    # a record may have no value at all (a tombstone)
                    value = record.value or b""
                    mark = Barrier.decode(value)
                    if mark is None:
                        _keep(found, record.offset, value)
                    elif mark.id == barrier:
                        passed.add(mark.partition)
        return list(found.values())
    finally:
        await consumer.stop()


def _keep(found: dict[str, dict[str, Any]], seq: int, value: bytes) -> None:
    """Adds the alert unless it is a repeat; what is no alert has gone to the dead letters by the sink."""
    try:
        alert = parse_alert(value, seq).alert
    except BadInput:
        return
    found.setdefault(alert["id"], {"seq": seq, **alert})


def write_alerts(path: Path, alerts: list[dict[str, Any]]) -> None:
    """One JSON object per line."""
    with path.open("wb") as out:
        for alert in alerts:
            out.write(orjson.dumps(alert) + b"\n")


def by_rule(alerts: list[dict[str, Any]]) -> dict[str, int]:
    """Counts, most first."""
    return dict(Counter(alert["rule_type"] for alert in alerts).most_common())
