"""Consumer groups: finding the coordinator, membership, committed offsets."""

from __future__ import annotations

from collections.abc import Iterable

from kio.schema.delete_groups.v1 import request as delete_request
from kio.schema.delete_groups.v1 import response as delete_response
from kio.schema.describe_groups.v3 import request as describe_request
from kio.schema.describe_groups.v3 import response as describe_response
from kio.schema.errors import ErrorCode
from kio.schema.find_coordinator.v1 import request as coordinator_request
from kio.schema.find_coordinator.v1 import response as coordinator_response
from kio.schema.heartbeat.v1 import request as heartbeat_request
from kio.schema.heartbeat.v1 import response as heartbeat_response
from kio.schema.join_group.v5 import request as join_request
from kio.schema.join_group.v5 import response as join_response
from kio.schema.leave_group.v1 import request as leave_request
from kio.schema.leave_group.v1 import response as leave_response
from kio.schema.list_groups.v1 import request as list_request
from kio.schema.list_groups.v1 import response as list_response
from kio.schema.offset_commit.v3 import request as commit_request
from kio.schema.offset_commit.v3 import response as commit_response
from kio.schema.offset_fetch.v3 import request as committed_request
from kio.schema.offset_fetch.v3 import response as committed_response
from kio.schema.sync_group.v3 import request as sync_request
from kio.schema.sync_group.v3 import response as sync_response
from kio.schema.types import BrokerId, GroupId, TopicName
from kio.static.primitive import i32, i64

from app.local.broker.api import NO_THROTTLE, NODE_ID, Api
from app.local.broker.group import Committed, ConsumerGroup, GroupError, Member


class GroupApi:
    """Answers requests about consumer groups. `host` and `port`: the broker's address, as clients are told."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._groups: dict[str, ConsumerGroup] = {}

    def apis(self) -> Iterable[Api]:
        yield Api(coordinator_request.FindCoordinatorRequest, self.find_coordinator)
        yield Api(join_request.JoinGroupRequest, self.join)
        yield Api(sync_request.SyncGroupRequest, self.sync)
        yield Api(heartbeat_request.HeartbeatRequest, self.heartbeat)
        yield Api(leave_request.LeaveGroupRequest, self.leave)
        yield Api(commit_request.OffsetCommitRequest, self.commit)
        yield Api(committed_request.OffsetFetchRequest, self.committed)
        yield Api(list_request.ListGroupsRequest, self.list_groups)
        yield Api(describe_request.DescribeGroupsRequest, self.describe)
        yield Api(delete_request.DeleteGroupsRequest, self.delete)

    def close(self) -> None:
        for group in self._groups.values():
            group.close()

    def unread_from(self, topic: str, partition: int) -> int | None:
        """Return the lowest offset that any group has committed for this partition; None if no group has."""
        places = [group.offsets.get((topic, partition)) for group in self._groups.values()]
        return min((place.offset for place in places if place is not None), default=None)

    def _group(self, group_id: str) -> ConsumerGroup:
        return self._groups.setdefault(group_id, ConsumerGroup(group_id))

    async def find_coordinator(
        self, request: coordinator_request.FindCoordinatorRequest
    ) -> coordinator_response.FindCoordinatorResponse:
        return coordinator_response.FindCoordinatorResponse(
            throttle_time=NO_THROTTLE,
            error_code=ErrorCode.none,
            error_message=None,
            node_id=BrokerId(NODE_ID),
            host=self._host,
            port=i32(self._port),
        )

    async def join(self, request: join_request.JoinGroupRequest) -> join_response.JoinGroupResponse:
        candidate = Member(
            request.member_id,
            request.group_instance_id,
            request.session_timeout.total_seconds(),
            request.rebalance_timeout.total_seconds(),
            {one.name: one.metadata for one in request.protocols},
        )
        try:
            joined = await self._group(request.group_id).join(candidate, request.protocol_type)
        except GroupError as error:
            return join_response.JoinGroupResponse(
                throttle_time=NO_THROTTLE,
                error_code=error.code,
                protocol_name="",
                leader="",
                member_id=request.member_id,
                members=(),
            )
        members = tuple(
            join_response.JoinGroupResponseMember(
                member_id=member_id, group_instance_id=instance_id, metadata=metadata
            )
            for member_id, instance_id, metadata in joined.members
        )
        return join_response.JoinGroupResponse(
            throttle_time=NO_THROTTLE,
            error_code=ErrorCode.none,
            generation_id=i32(joined.generation),
            protocol_name=joined.protocol,
            leader=joined.leader,
            member_id=joined.member_id,
            members=members,
        )

    async def sync(self, request: sync_request.SyncGroupRequest) -> sync_response.SyncGroupResponse:
        assignments = {one.member_id: one.assignment for one in request.assignments}
        error, assignment = ErrorCode.none, b""
        try:
            group = self._group(request.group_id)
            assignment = await group.sync(request.member_id, request.generation_id, assignments)
        except GroupError as fault:
            error = fault.code
        return sync_response.SyncGroupResponse(
            throttle_time=NO_THROTTLE, error_code=error, assignment=assignment
        )

    async def heartbeat(
        self, request: heartbeat_request.HeartbeatRequest
    ) -> heartbeat_response.HeartbeatResponse:
        error = ErrorCode.none
        try:
            self._group(request.group_id).heartbeat(request.member_id, request.generation_id)
        except GroupError as fault:
            error = fault.code
        return heartbeat_response.HeartbeatResponse(throttle_time=NO_THROTTLE, error_code=error)

    async def leave(self, request: leave_request.LeaveGroupRequest) -> leave_response.LeaveGroupResponse:
        error = ErrorCode.none
        try:
            self._group(request.group_id).leave(request.member_id)
        except GroupError as fault:
            error = fault.code
        return leave_response.LeaveGroupResponse(throttle_time=NO_THROTTLE, error_code=error)

    async def commit(
        self, request: commit_request.OffsetCommitRequest
    ) -> commit_response.OffsetCommitResponse:
        offsets = {
            (str(topic.name), int(one.partition_index)): Committed(
                one.committed_offset, one.committed_metadata
            )
            for topic in request.topics
            for one in topic.partitions
        }
        error = ErrorCode.none
        try:
            generation = int(request.generation_id_or_member_epoch)
            self._group(request.group_id).commit(request.member_id, generation, offsets)
        except GroupError as fault:
            error = fault.code
        topics = tuple(
            commit_response.OffsetCommitResponseTopic(
                name=topic.name,
                partitions=tuple(
                    commit_response.OffsetCommitResponsePartition(
                        partition_index=one.partition_index, error_code=error
                    )
                    for one in topic.partitions
                ),
            )
            for topic in request.topics
        )
        return commit_response.OffsetCommitResponse(throttle_time=NO_THROTTLE, topics=topics)

    async def committed(
        self, request: committed_request.OffsetFetchRequest
    ) -> committed_response.OffsetFetchResponse:
        """Return the offsets of the requested partitions, or of all."""
        offsets = self._group(request.group_id).offsets
        wanted: dict[str, list[int]] = {}
        if request.topics is None:
            for name, partition in offsets:
                wanted.setdefault(name, []).append(partition)
        else:
            for topic in request.topics:
                wanted[topic.name] = [int(index) for index in topic.partition_indexes]
        topics = tuple(
            committed_response.OffsetFetchResponseTopic(
                name=TopicName(name),
                partitions=tuple(_committed(index, offsets.get((name, index))) for index in partitions),
            )
            for name, partitions in wanted.items()
        )
        return committed_response.OffsetFetchResponse(throttle_time=NO_THROTTLE, topics=topics)

    async def list_groups(self, request: list_request.ListGroupsRequest) -> list_response.ListGroupsResponse:
        groups = tuple(
            list_response.ListedGroup(group_id=GroupId(group.group_id), protocol_type=group.protocol_type)
            for group in self._groups.values()
        )
        return list_response.ListGroupsResponse(
            throttle_time=NO_THROTTLE, error_code=ErrorCode.none, groups=groups
        )

    async def delete(
        self, request: delete_request.DeleteGroupsRequest
    ) -> delete_response.DeleteGroupsResponse:
        results = tuple(
            delete_response.DeletableGroupResult(group_id=name, error_code=self._delete(name))
            for name in request.groups_names
        )
        return delete_response.DeleteGroupsResponse(throttle_time=NO_THROTTLE, results=results)

    def _delete(self, name: str) -> ErrorCode:
        group = self._groups.get(name)
        if group is None:
            return ErrorCode.group_id_not_found
        if group.members:
            return ErrorCode.non_empty_group
        del self._groups[name]
        return ErrorCode.none

    async def describe(
        self, request: describe_request.DescribeGroupsRequest
    ) -> describe_response.DescribeGroupsResponse:
        return describe_response.DescribeGroupsResponse(
            throttle_time=NO_THROTTLE,
            groups=tuple(_described(name, self._groups.get(name)) for name in request.groups),
        )


def _committed(
    partition: int, committed: Committed | None
) -> committed_response.OffsetFetchResponsePartition:
    return committed_response.OffsetFetchResponsePartition(
        partition_index=i32(partition),
        committed_offset=i64(-1 if committed is None else committed.offset),
        metadata="" if committed is None else committed.metadata,
        error_code=ErrorCode.none,
    )


def _described(group_id: GroupId, group: ConsumerGroup | None) -> describe_response.DescribedGroup:
    if group is None:
        return describe_response.DescribedGroup(
            error_code=ErrorCode.none,
            group_id=group_id,
            group_state="Dead",
            protocol_type="",
            protocol_data="",
            members=(),
        )
    members = tuple(
        describe_response.DescribedGroupMember(
            member_id=member.member_id,
            client_id=member.instance_id or "",
            client_host="",
            member_metadata=member.protocols.get(group.protocol, b""),
            member_assignment=member.assignment,
        )
        for member in group.members.values()
    )
    return describe_response.DescribedGroup(
        error_code=ErrorCode.none,
        group_id=group_id,
        group_state=group.state.value,
        protocol_type=group.protocol_type,
        protocol_data=group.protocol,
        members=members,
    )
