"""Reads the collector's missing minutes from [gaps]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer

from app.candles.known_minutes import Gap
from app.errors import BadInput
from app.settings.access import KafkaAccess
from app.wire.gap_reports import decode_gaps
from app.wire.kafka import client_options
from app.wire.retry import Backoff, OutageLog, retried
from app.wire.topics import Topics

_RECORDS_AT_ONCE: Final = 100
_POLL_MS: Final = 1_000
_BACKOFF: Final = Backoff(0.5, 15.0)
log = structlog.get_logger("feed")


async def read_gaps(kafka: KafkaAccess, take: Callable[[Gap], object]) -> None:
    """Pass on every reported gap, until cancelled; a broker that is down is waited for.

    A report counts as read when it is passed on. A crash after that loses nothing: at its start the feed looks for
    missing minutes in the database.
    """
    outage = OutageLog(log, "gap_reports_unavailable")
    await retried(lambda: _read(kafka, take, outage), outage, backoff=_BACKOFF)


async def _read(kafka: KafkaAccess, take: Callable[[Gap], object], outage: OutageLog) -> None:
    consumer = AIOKafkaConsumer(
        Topics.of(kafka.namespace).gaps,
        **client_options(kafka),
        group_id=kafka.namespace.name("feed"),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    try:
        await consumer.start()
        outage.over()
        while True:
            records = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_AT_ONCE)
            for record in (record for of_partition in records.values() for record in of_partition):
                for gap in _gaps(record.value or b"", record.offset):
                    take(gap)
            if records:
                await consumer.commit()
    finally:
        await consumer.stop()


def _gaps(value: bytes, offset: int) -> list[Gap]:
    try:
        gaps, bad = decode_gaps(value)
    except BadInput as error:
        log.warning("gap_report_unreadable", offset=offset, error=str(error))
        return []
    if bad:
        log.warning("gap_report_unreadable", offset=offset, error=f"{bad} of its entries are invalid gaps")
    return gaps
