"""Collecting the alerts of a replay from the [alerts] topic, each once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.errors import BadInput
from app.rules.alert import Alert
from app.settings.access import KafkaAccess
from app.wire.barrier import Barrier
from app.wire.kafka import client_options
from app.wire.topics import Topics


async def collect_alerts(kafka: KafkaAccess, barrier: str) -> list[Alert]:
    """Return all alerts before `barrier`, in order of seq, a repeated id left out."""
    topic = TopicPartition(Topics.of(kafka.namespace).alerts, 0)
    consumer = AIOKafkaConsumer(
        **client_options(kafka),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    await consumer.start()
    try:
        consumer.assign([topic])
        await consumer.seek_to_beginning(topic)
        found: dict[str, Alert] = {}
        passed: set[int] = set()
        while len(passed) < kafka.partitions:
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


def _keep(found: dict[str, Alert], seq: int, value: bytes) -> None:
    """Add the alert unless it is a repeat; the sink has sent invalid ones to the dead letters."""
    try:
        alert = Alert.decode(value, seq)
    except BadInput:
        return
    found.setdefault(alert.id, alert)


def write_alerts(path: Path, alerts: list[Alert]) -> None:
    """Write one JSON object per line."""
    with path.open("wb") as out:
        for alert in alerts:
            out.write(orjson.dumps({"seq": alert.seq} | alert.as_dict()) + b"\n")


def by_rule(alerts: list[Alert]) -> dict[str, int]:
    """Return rule -> number of alerts, the most frequent rule first."""
    return dict(Counter(alert.rule_type for alert in alerts).most_common())
