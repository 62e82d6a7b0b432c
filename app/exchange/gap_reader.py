"""Reads what the collector misses from [gaps]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from app.candles.known_minutes import Gap
from app.errors import BadInput
from app.gap_reports import decode_gaps
from app.kafka_access import kafka_access
from app.settings import Settings
from app.topics import Topics

_RECORDS_AT_ONCE: Final = 100
_POLL_MS: Final = 1_000
log = structlog.get_logger("feed")


async def read_gaps(settings: Settings, take: Callable[[Gap], object]) -> None:
    """Hands on every reported gap, until cancelled; a broker that is away is waited for.

    A report counts as read when it is handed on: after a crash of the feed its start looks into the database for
    what is missing, so that nothing depends on it.
    """
    async for attempt in AsyncRetrying(
        wait=wait_exponential_jitter(multiplier=0.5, max=15.0),
        retry=retry_if_exception_type((KafkaError, OSError)),
        before_sleep=_log_retry,
    ):
        with attempt:
            await _read(settings, take)


async def _read(settings: Settings, take: Callable[[Gap], object]) -> None:
    consumer = AIOKafkaConsumer(
        Topics.of(settings).gaps,
        **kafka_access(settings),
        group_id=settings.name("feed"),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    try:
        await consumer.start()
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
        return decode_gaps(value)
    except BadInput as error:
        log.warning("gap_report_unreadable", offset=offset, error=str(error))
        return []


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("gap_reports_unavailable", attempt=state.attempt_number, error=repr(error))
