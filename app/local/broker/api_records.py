"""Produce, Fetch, ListOffsets, DeleteRecords: writing and reading records."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from kio.schema.delete_records.v1 import request as delete_request
from kio.schema.delete_records.v1 import response as delete_response
from kio.schema.errors import ErrorCode
from kio.schema.fetch.v11 import request as fetch_request
from kio.schema.fetch.v11 import response as fetch_response
from kio.schema.list_offsets.v3 import request as offsets_request
from kio.schema.list_offsets.v3 import response as offsets_response
from kio.schema.produce.v7 import request as produce_request
from kio.schema.produce.v7 import response as produce_response
from kio.static.primitive import Records, i64

from app.clock import Clock
from app.local.broker.api import NO_THROTTLE, Api
from app.local.broker.log import CorruptBatchError, PartitionLog
from app.local.broker.topics import TopicLogs

# Values of ListOffsets' timestamp that mean an end of the log instead of a time.
_LATEST = -1
_EARLIEST = -2
_NOTHING = Records(b"")


class RecordApi:
    """Answers requests that write or read records of `topics`."""

    def __init__(self, topics: TopicLogs, clock: Clock) -> None:
        self._topics = topics
        self._clock = clock

    def apis(self) -> Iterable[Api]:
        yield Api(produce_request.ProduceRequest, self.produce)
        yield Api(fetch_request.FetchRequest, self.fetch)
        yield Api(offsets_request.ListOffsetsRequest, self.list_offsets)
        yield Api(delete_request.DeleteRecordsRequest, self.delete_records)

    async def produce(
        self, request: produce_request.ProduceRequest
    ) -> produce_response.ProduceResponse | None:
        """Append records. A producer with acks = 0 gets no answer."""
        answers = tuple(
            produce_response.TopicProduceResponse(
                name=topic.name,
                partition_responses=tuple(self._append(topic.name, one) for one in topic.partition_data),
            )
            for topic in request.topic_data
        )
        return produce_response.ProduceResponse(responses=answers) if request.acks else None

    def _append(
        self, name: str, data: produce_request.PartitionProduceData
    ) -> produce_response.PartitionProduceResponse:
        topic, log = self._topics.get(name), self._topics.log(name, data.index)
        error, offset = ErrorCode.none, -1
        records = data.records or b""
        if topic is None or log is None:
            error = ErrorCode.unknown_topic_or_partition
        elif len(records) > topic.max_message_bytes:
            error = ErrorCode.message_too_large
        else:
            try:
                offset = log.append(records, self._clock.now_ms())
            except CorruptBatchError:
                error = ErrorCode.corrupt_message
        return produce_response.PartitionProduceResponse(
            index=data.index,
            error_code=error,
            base_offset=i64(offset),
            log_start_offset=i64(log.start_offset if log else -1),
        )

    async def fetch(self, request: fetch_request.FetchRequest) -> fetch_response.FetchResponse:
        """Return records. Wait, as long as the client allows, until there are at least as many bytes as it wants."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + request.max_wait.total_seconds()
        while not self._is_due(request):
            remaining_s = deadline_s - loop.time()
            if remaining_s <= 0:
                break
            await self._next_append(request, remaining_s)
        return self._collect(request)

    def _is_due(self, request: fetch_request.FetchRequest) -> bool:
        """Return whether there are as many bytes as the client wants, or a partition fails. Read no records: for a
        client that wants many bytes this runs at each append."""
        wanted_bytes = int(request.min_bytes)
        for topic in request.topics:
            for one in topic.partitions:
                log = self._topics.log(topic.topic, one.partition)
                if log is None or not log.start_offset <= one.fetch_offset <= log.end_offset:
                    return True
                wanted_bytes -= log.holds_bytes(one.fetch_offset, int(one.partition_max_bytes))
        return wanted_bytes <= 0

    def _collect(self, request: fetch_request.FetchRequest) -> fetch_response.FetchResponse:
        """Return the answer as of now."""
        topics = []
        size_bytes = 0
        for topic in request.topics:
            partitions = []
            for wanted in topic.partitions:
                part = self._read(topic.topic, wanted, int(request.max_bytes) - size_bytes)
                size_bytes += len(part.records or b"")
                partitions.append(part)
            answered = fetch_response.FetchableTopicResponse(topic=topic.topic, partitions=tuple(partitions))
            topics.append(answered)
        return fetch_response.FetchResponse(
            throttle_time=NO_THROTTLE, error_code=ErrorCode.none, responses=tuple(topics)
        )

    def _read(
        self, topic: str, wanted: fetch_request.FetchPartition, room_bytes: int
    ) -> fetch_response.PartitionData:
        log = self._topics.log(topic, wanted.partition)
        error, records = ErrorCode.none, _NOTHING
        if log is None:
            error = ErrorCode.unknown_topic_or_partition
        elif not log.start_offset <= wanted.fetch_offset <= log.end_offset:
            error = ErrorCode.offset_out_of_range
        elif room_bytes > 0:
            limit = min(int(wanted.partition_max_bytes), room_bytes)
            records = Records(log.read(wanted.fetch_offset, limit))
        end = i64(log.end_offset if log else -1)
        return fetch_response.PartitionData(
            partition_index=wanted.partition,
            error_code=error,
            high_watermark=end,
            last_stable_offset=end,
            log_start_offset=i64(log.start_offset if log else -1),
            aborted_transactions=None,
            records=records,
        )

    async def _next_append(self, request: fetch_request.FetchRequest, timeout_s: float) -> None:
        """Wait until one of the requested partitions grows, or `timeout_s` has passed."""
        logs = [
            self._topics.log(topic.topic, one.partition)
            for topic in request.topics
            for one in topic.partitions
        ]
        waiting: list[tuple[PartitionLog, asyncio.Future[None]]] = [
            (log, log.waiter()) for log in logs if log is not None
        ]
        if not waiting:
            await asyncio.sleep(timeout_s)
            return
        try:
            await asyncio.wait(
                [future for _, future in waiting], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for log, future in waiting:
                log.forget(future)

    async def list_offsets(
        self, request: offsets_request.ListOffsetsRequest
    ) -> offsets_response.ListOffsetsResponse:
        """Return for each partition its first offset, its next offset, or its offset at a time."""
        topics = tuple(
            offsets_response.ListOffsetsTopicResponse(
                name=topic.name, partitions=tuple(self._offset(topic.name, one) for one in topic.partitions)
            )
            for topic in request.topics
        )
        return offsets_response.ListOffsetsResponse(throttle_time=NO_THROTTLE, topics=topics)

    def _offset(
        self, topic: str, wanted: offsets_request.ListOffsetsPartition
    ) -> offsets_response.ListOffsetsPartitionResponse:
        log = self._topics.log(topic, wanted.partition_index)
        error, offset, timestamp_ms = ErrorCode.none, -1, -1
        if log is None:
            error = ErrorCode.unknown_topic_or_partition
        elif wanted.timestamp == _LATEST:
            offset = log.end_offset
        elif wanted.timestamp == _EARLIEST:
            offset = log.start_offset
        elif (found := log.offset_at(wanted.timestamp)) is not None:
            offset, timestamp_ms = found
        return offsets_response.ListOffsetsPartitionResponse(
            partition_index=wanted.partition_index,
            error_code=error,
            timestamp=i64(timestamp_ms),
            offset=i64(offset),
        )

    async def delete_records(
        self, request: delete_request.DeleteRecordsRequest
    ) -> delete_response.DeleteRecordsResponse:
        """Drop all records before an offset (-1: before the end)."""
        topics = tuple(
            delete_response.DeleteRecordsTopicResult(
                name=topic.name, partitions=tuple(self._cut(topic.name, one) for one in topic.partitions)
            )
            for topic in request.topics
        )
        return delete_response.DeleteRecordsResponse(throttle_time=NO_THROTTLE, topics=topics)

    def _cut(
        self, topic: str, wanted: delete_request.DeleteRecordsPartition
    ) -> delete_response.DeleteRecordsPartitionResult:
        log = self._topics.log(topic, wanted.partition_index)
        error = ErrorCode.none
        if log is None:
            error = ErrorCode.unknown_topic_or_partition
        elif wanted.offset > log.end_offset:
            error = ErrorCode.offset_out_of_range
        else:
            log.drop_before(log.end_offset if wanted.offset < 0 else int(wanted.offset))
        return delete_response.DeleteRecordsPartitionResult(
            partition_index=wanted.partition_index,
            low_watermark=i64(log.start_offset if log else -1),
            error_code=error,
        )
