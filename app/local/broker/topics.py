"""Topics by name, their settings, and how long their records are kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import ClassVar

from kio.schema.errors import ErrorCode

from app.local.broker.log import Batch, PartitionLog
from app.local.broker.segments import Segments

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_MAX_PARTITIONS = 1024
# Apache Kafka's own defaults, except that a partition is bounded, as the disk of a laptop is.
_DEFAULTS: Mapping[str, str] = {
    "cleanup.policy": "delete",
    "retention.ms": "604800000",
    "retention.bytes": "536870912",
    "max.message.bytes": "1048588",
}


class TopicError(Exception):
    """The answer to a request about a topic that cannot be carried out."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Topic:
    name: str
    logs: list[PartitionLog]
    configs: dict[str, str]
    """As given at creation, over the defaults; unknown names are kept and ignored."""
    retention_ms: int = field(init=False)
    """-1: no limit"""
    retention_bytes: int = field(init=False)
    """Of a partition, which keeps at least this much; -1: no limit"""
    max_message_bytes: int = field(init=False)
    deletes: bool = field(init=False)
    """Whether old records may be deleted (cleanup.policy)."""

    FIRST_OFFSET: ClassVar[str] = "screener.first.offset"
    """A setting of our own: where the offsets of a new topic begin."""

    def __post_init__(self) -> None:
        try:
            self.retention_ms = int(self.configs["retention.ms"])
            self.retention_bytes = int(self.configs["retention.bytes"])
            self.max_message_bytes = int(self.configs["max.message.bytes"])
            first_offset = int(self.configs.get(self.FIRST_OFFSET, 0))
        except ValueError as error:
            raise TopicError(ErrorCode.invalid_config, str(error)) from error
        for log in self.logs:
            log.begin_at(first_offset)
        self.deletes = "delete" in self.configs["cleanup.policy"]


UnreadFrom = Callable[[str, int], int | None]
"""(topic, partition) -> the first offset that some consumer group has not committed; None if no group commits there."""


class TopicLogs:
    """All topics, in unnamed files in `directory` (None: in memory).

    `max_bytes` bounds their total size. Above it, records of topics with deletion are dropped before they expire:
    first records that every consumer group has committed, the oldest first. If that is not enough, unread records
    are lost, first those of the topics with the shortest retention (metrics, which can be computed again, before
    candles that are not stored yet).
    """

    def __init__(self, max_bytes: int, directory: Path | None = None) -> None:
        self._max_bytes = max_bytes
        self._directory = directory
        self._topics: dict[str, Topic] = {}

    def __iter__(self) -> Iterator[Topic]:
        return iter(self._topics.values())

    def get(self, name: str) -> Topic | None:
        return self._topics.get(name)

    def log(self, name: str, partition: int) -> PartitionLog | None:
        topic = self._topics.get(name)
        if topic is None or not 0 <= partition < len(topic.logs):
            return None
        return topic.logs[partition]

    def check(self, name: str, partitions: int, configs: Mapping[str, str]) -> Topic:
        """Return the topic as it would be made. Raises TopicError."""
        if name in self._topics:
            raise TopicError(ErrorCode.topic_already_exists, f"topic {name} exists")
        if not _NAME.fullmatch(name) or name in (".", ".."):
            raise TopicError(ErrorCode.invalid_topic_exception, f"{name!r} is not a topic name")
        if not 1 <= partitions <= _MAX_PARTITIONS:
            raise TopicError(
                ErrorCode.invalid_partitions, f"{partitions} partitions; 1 to {_MAX_PARTITIONS} are allowed"
            )
        settings = {**_DEFAULTS, **configs}
        compacts = "compact" in settings["cleanup.policy"]
        return Topic(name, [self._log(compacts) for _ in range(partitions)], settings)

    def _log(self, compacts: bool) -> PartitionLog:
        segments = None if self._directory is None else Segments(self._directory)
        return PartitionLog(segments, compacts=compacts)

    def create(self, name: str, partitions: int, configs: Mapping[str, str]) -> None:
        """Create the topic. Raises TopicError."""
        self._topics[name] = self.check(name, partitions, configs)

    def delete(self, name: str) -> bool:
        """Delete the topic, and return whether there was one of this name."""
        topic = self._topics.pop(name, None)
        for log in topic.logs if topic else ():
            log.wake()
        return topic is not None

    def enforce_retention(self, now_ms: int, unread_from: UnreadFrom) -> int:
        """Drop superseded, expired and excess records; return how many unread bytes were dropped for lack of room.

        Age counts from the arrival of a batch, not from its timestamps, so that replayed data stay.
        """
        kept_bytes = 0
        for topic in self._topics.values():
            for log in topic.logs:
                log.compact()
                if topic.deletes:
                    _apply(topic, log, now_ms)
                kept_bytes += log.size_bytes
        excess_bytes = kept_bytes - self._max_bytes
        if excess_bytes <= 0:
            return 0
        deleting = [topic for topic in self._topics.values() if topic.deletes]
        read = [
            _Shed(0.0, log, unread_from(topic.name, partition) or 0)
            for topic in deleting
            for partition, log in enumerate(topic.logs)
        ]
        excess_bytes -= _shed(read, excess_bytes)
        lasting = [
            _Shed(topic.retention_ms if topic.retention_ms >= 0 else inf, log, inf)
            for topic in deleting
            for log in topic.logs
        ]
        return _shed(lasting, excess_bytes)


@dataclass(frozen=True, slots=True)
class _Shed:
    """A log whose batches wholly before the offset `until` may be dropped; logs with a lower `turn` come first."""

    turn: float
    log: PartitionLog
    until: float

    @property
    def next(self) -> Batch | None:
        oldest = self.log.oldest
        return oldest if oldest is not None and oldest.last_offset < self.until else None


def _shed(logs: list[_Shed], excess_bytes: int) -> int:
    """Drop batches, by turn, then by age, until `excess_bytes` are gone or no batch is left; return the bytes
    dropped."""
    gone_bytes = 0
    while gone_bytes < excess_bytes:
        held = [(one.turn, batch.appended_ms, at) for at, one in enumerate(logs) if (batch := one.next)]
        if not held:
            break
        gone_bytes += logs[min(held)[2]].log.drop_oldest()
    return gone_bytes


def _apply(topic: Topic, log: PartitionLog, now_ms: int) -> None:
    while (oldest := log.oldest) is not None:
        too_old = 0 <= topic.retention_ms < now_ms - oldest.appended_ms
        too_much = 0 <= topic.retention_bytes <= log.size_bytes - oldest.size_bytes
        if not (too_old or too_much):
            return
        log.drop_oldest()
