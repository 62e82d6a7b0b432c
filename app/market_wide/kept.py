"""What [market] says about the past: the minutes that are done, and those whose alerts may be missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from app.errors import BadFrame
from app.market.metrics import MetricsBatch
from app.rules.market.sealing import one_row_each
from app.wire.kafka import REQUEST_MAX_BYTES
from app.wire.market_minutes import POSITION_KEY, MinuteReader, PartsReader, Position

_LAST_RECORDS = 200
"""The newest position is among so many last records: one follows the minutes of every step."""

log = structlog.get_logger("market")


@dataclass(slots=True)
class Kept:
    """The end of [market]. memory: of the rules before `minutes`, None if there is none. minutes: in order of time;
    minutes up to `position.sealed_ms` are done, later ones are sealed, but their alerts may be missing. last: the
    newest sealed minute, None if there is none."""

    position: Position | None = None
    memory: bytes | None = None
    last: MetricsBatch | None = None
    minutes: list[MetricsBatch] = field(default_factory=list)


async def read_kept(access: Mapping[str, Any], topic: str) -> Kept:
    """Read the end of [market], from the newest memory of the rules on. `access`: as of app.wire.kafka."""
    consumer = AIOKafkaConsumer(
        **access, enable_auto_commit=False, max_partition_fetch_bytes=REQUEST_MAX_BYTES
    )
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        first = (await consumer.beginning_offsets([partition]))[partition]
        end = (await consumer.end_offsets([partition]))[partition]
        position = None
        async for record in _records(consumer, partition, max(first, end - _LAST_RECORDS), end):
            if record.key == POSITION_KEY:
                position = _position(record) or position
        start = first if position is None or position.kept_from is None else max(first, position.kept_from)
        return await _collect(_records(consumer, partition, start, end), position)
    finally:
        await consumer.stop()


async def _records(
    consumer: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int
) -> AsyncIterator[ConsumerRecord]:
    consumer.seek(partition, start)
    while await consumer.position(partition) < end:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                if record.offset < end:
                    yield record


async def _collect(records: AsyncIterator[ConsumerRecord], position: Position | None) -> Kept:
    """Collect the records. A minute may be there twice, from two processes that each thought it was the reader: the
    first one counts."""
    kept, memory, reader = Kept(position), PartsReader(b"memory"), MinuteReader()
    minutes: dict[int, MetricsBatch] = {}
    async for record in records:
        if (parts := memory.take(record.key, record.value)) is not None:
            kept.memory = b"".join(parts)
            minutes.clear()
            continue
        try:
            rows = reader.take(record.key, record.value)
        except BadFrame as error:
            log.warning("record_skipped", topic=record.topic, offset=record.offset, fault=str(error))
            continue
        if rows is not None:
            minute = one_row_each(rows)
            at = int(minute.open_time_ms[0])
            if kept.last is None or at > int(kept.last.open_time_ms[0]):
                kept.last = minutes[at] = minute
    kept.minutes = [minutes[at] for at in sorted(minutes)]
    return kept


def _position(record: ConsumerRecord) -> Position | None:
    try:
        return Position.decode(record.value or b"")
    except BadFrame as error:
        log.warning("record_skipped", topic=record.topic, offset=record.offset, fault=str(error))
        return None
