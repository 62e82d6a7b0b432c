"""One consumer group: its members, their partitions and offsets. Apache Kafka's classic group protocol.

A group is EMPTY, or PREPARING (members are being asked to join again), or SYNCING (the leader, one of the
members, works out the assignment), or STABLE. Members that stop sending heartbeats are removed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from uuid import uuid4

from kio.schema.errors import ErrorCode


class GroupError(Exception):
    """The answer to a request that does not fit the state of the group."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.name)
        self.code = code


class GroupState(Enum):
    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    SYNCING = "CompletingRebalance"
    STABLE = "Stable"


@dataclass(slots=True)
class Member:
    member_id: str
    instance_id: str | None
    session_timeout_s: float
    rebalance_timeout_s: float
    protocols: dict[str, bytes]
    """Assignment strategies in order of preference, each with the member's metadata for it."""
    assignment: bytes = b""
    joining: asyncio.Future[None] | None = None
    syncing: asyncio.Future[None] | None = None
    expiry: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    generation: int
    protocol: str
    leader: str
    member_id: str
    members: tuple[tuple[str, str | None, bytes], ...]
    """Id, instance id and metadata of every member for the leader; empty for the others."""


@dataclass(frozen=True, slots=True)
class Committed:
    offset: int
    metadata: str | None


@dataclass(slots=True)
class ConsumerGroup:
    group_id: str
    state: GroupState = GroupState.EMPTY
    generation: int = 0
    protocol_type: str = ""
    protocol: str = ""
    leader: str = ""
    members: dict[str, Member] = field(default_factory=dict)
    offsets: dict[tuple[str, int], Committed] = field(default_factory=dict)
    _deadline: asyncio.TimerHandle | None = None

    async def join(self, candidate: Member, protocol_type: str) -> Joined:
        """Join the next generation, and wait until all members have joined; a member that belongs to the present
        generation may stay in it. `candidate.member_id` is empty for a new member. Raises GroupError."""
        known = self._admit(candidate, protocol_type)
        member = self.members[candidate.member_id]
        # A leader that asks again when all is settled wants a new assignment; others only missed the answer.
        stays = self.state is GroupState.SYNCING or (
            self.state is GroupState.STABLE and member.member_id != self.leader
        )
        if known and stays:
            self._keep_alive(member)
            return self._joined(member)
        _settle(member.joining, GroupError(ErrorCode.rebalance_in_progress))
        member.joining = everyone_is_here = asyncio.get_running_loop().create_future()
        self._stop_expiry(member)
        self._prepare()
        self._complete_join_if_all_are_here()
        await everyone_is_here
        return self._joined(member)

    def _admit(self, candidate: Member, protocol_type: str) -> bool:
        """Add a new member, or update a known one. Return whether it was a member with the same protocols."""
        others = [one for one in self.members.values() if one.member_id != candidate.member_id]
        common = set(candidate.protocols).intersection(*(one.protocols for one in others))
        if not common or (others and protocol_type != self.protocol_type):
            raise GroupError(ErrorCode.inconsistent_group_protocol)
        if candidate.member_id:
            member = self._member(candidate.member_id)
            same = member.protocols == candidate.protocols
            member.protocols = candidate.protocols
            return same
        if candidate.instance_id is not None:
            for one in others:
                if one.instance_id == candidate.instance_id:  # the same consumer, restarted
                    self._forget(one, ErrorCode.fenced_instance_id)
        candidate.member_id = f"{candidate.instance_id or 'member'}-{uuid4()}"
        self.members[candidate.member_id] = candidate
        self.protocol_type = protocol_type
        return False

    async def sync(self, member_id: str, generation: int, assignments: Mapping[str, bytes]) -> bytes:
        """Return the member's assignment. The leader sends all assignments; the others wait for them.
        Raises GroupError."""
        member = self._member(member_id, generation)
        if self.state is GroupState.PREPARING:
            raise GroupError(ErrorCode.rebalance_in_progress)
        if self.state is GroupState.SYNCING:
            if member_id == self.leader:
                self._spread(assignments)
            else:
                _settle(member.syncing, GroupError(ErrorCode.rebalance_in_progress))
                member.syncing = assigned = asyncio.get_running_loop().create_future()
                self._stop_expiry(member)
                await assigned
        self._keep_alive(member)
        return member.assignment

    def _spread(self, assignments: Mapping[str, bytes]) -> None:
        self.state = GroupState.STABLE
        for member in self.members.values():
            member.assignment = assignments.get(member.member_id, b"")
            _settle(member.syncing)
            member.syncing = None

    def heartbeat(self, member_id: str, generation: int) -> None:
        """Note a heartbeat. Raises GroupError: rebalance_in_progress asks the member to join again."""
        self._keep_alive(self._member(member_id, generation))
        if self.state is GroupState.PREPARING:
            raise GroupError(ErrorCode.rebalance_in_progress)

    def leave(self, member_id: str) -> None:
        """Remove the member. Raises GroupError."""
        self._remove(self._member(member_id), ErrorCode.unknown_member_id)

    def commit(self, member_id: str, generation: int, offsets: Mapping[tuple[str, int], Committed]) -> None:
        """Store the offsets that a member commits; consumers that assign partitions themselves commit without
        member and generation. Raises GroupError, and then stores nothing."""
        if member_id or generation >= 0 or self.members:
            member = self._member(member_id, generation)
            if self.state is GroupState.SYNCING:
                raise GroupError(ErrorCode.rebalance_in_progress)
            self._keep_alive(member)
        self.offsets.update(offsets)

    def close(self) -> None:
        """Stop all timers."""
        self._stop_deadline()
        for member in self.members.values():
            self._stop_expiry(member)

    def _member(self, member_id: str, generation: int | None = None) -> Member:
        member = self.members.get(member_id)
        if member is None:
            raise GroupError(ErrorCode.unknown_member_id)
        if generation is not None and generation != self.generation:
            raise GroupError(ErrorCode.illegal_generation)
        return member

    def _prepare(self) -> None:
        if self.state is GroupState.PREPARING:
            return
        self.state = GroupState.PREPARING
        for member in self.members.values():
            _settle(member.syncing, GroupError(ErrorCode.rebalance_in_progress))
            member.syncing = None
            if member.joining is None:
                self._keep_alive(member)
        longest_s = max(member.rebalance_timeout_s for member in self.members.values())
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(longest_s, self._complete_join_without_the_absent)

    def _complete_join_if_all_are_here(self) -> None:
        if self.members and all(member.joining is not None for member in self.members.values()):
            self._complete_join()

    def _complete_join_without_the_absent(self) -> None:
        for member in [one for one in self.members.values() if one.joining is None]:
            self._forget(member, ErrorCode.unknown_member_id)
        if self.members:
            self._complete_join()
        else:
            self._become_empty()

    def _complete_join(self) -> None:
        self._stop_deadline()
        self.generation += 1
        self.state = GroupState.SYNCING
        self.protocol = self._elect_protocol()
        if self.leader not in self.members:
            self.leader = next(iter(self.members))
        for member in self.members.values():
            member.assignment = b""
            _settle(member.joining)
            member.joining = None
            self._keep_alive(member)

    def _elect_protocol(self) -> str:
        """Return the protocol that all members know and most prefer."""
        members = list(self.members.values())
        common = set(members[0].protocols).intersection(*(member.protocols for member in members))
        votes = Counter(next(name for name in member.protocols if name in common) for member in members)
        return votes.most_common(1)[0][0]

    def _joined(self, member: Member) -> Joined:
        everyone = tuple(
            (one.member_id, one.instance_id, one.protocols[self.protocol]) for one in self.members.values()
        )
        members = everyone if member.member_id == self.leader else ()
        return Joined(self.generation, self.protocol, self.leader, member.member_id, members)

    def _remove(self, member: Member, reason: ErrorCode) -> None:
        self._forget(member, reason)
        if not self.members:
            self._become_empty()
            return
        self._prepare()
        self._complete_join_if_all_are_here()

    def _forget(self, member: Member, reason: ErrorCode) -> None:
        del self.members[member.member_id]
        self._stop_expiry(member)
        _settle(member.joining, GroupError(reason))
        _settle(member.syncing, GroupError(reason))

    def _become_empty(self) -> None:
        self._stop_deadline()
        self.state = GroupState.EMPTY
        self.generation += 1
        self.leader = self.protocol = ""

    def _keep_alive(self, member: Member) -> None:
        self._stop_expiry(member)
        loop = asyncio.get_running_loop()
        member.expiry = loop.call_later(member.session_timeout_s, self._expire, member)

    def _expire(self, member: Member) -> None:
        if self.members.get(member.member_id) is member:
            self._remove(member, ErrorCode.unknown_member_id)

    def _stop_expiry(self, member: Member) -> None:
        if member.expiry is not None:
            member.expiry.cancel()
            member.expiry = None

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _settle(future: asyncio.Future[None] | None, error: GroupError | None = None) -> None:
    if future is None or future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
