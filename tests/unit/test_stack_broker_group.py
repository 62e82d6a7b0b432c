"""The group protocol where clients misbehave: silent, absent, dead, outdated or restarted members."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from kio.schema.errors import ErrorCode

from app.local.broker.group import Committed, ConsumerGroup, GroupError, GroupState, Joined, Member
from tests.support.eventually import eventually

LONG_S = 1000.0
SHORT_S = 0.05
KIND = "consumer"


@pytest.fixture
async def group() -> AsyncIterator[ConsumerGroup]:
    running = ConsumerGroup("g")
    yield running
    running.close()


def newcomer(
    session_s: float = LONG_S, rebalance_s: float = LONG_S, instance: str | None = None, **protocols: bytes
) -> Member:
    return Member("", instance, session_s, rebalance_s, protocols or {"range": b"m"})


def again(joined: Joined, **protocols: bytes) -> Member:
    return Member(joined.member_id, None, LONG_S, LONG_S, protocols or {"range": b"m"})


async def _leads(group: ConsumerGroup, member: Member) -> Joined:
    """Join an empty group and settle it."""
    joined = await group.join(member, KIND)
    await group.sync(joined.member_id, joined.generation, {joined.member_id: b"all"})
    return joined


def _refusal(action: Callable[[], None]) -> ErrorCode:
    with pytest.raises(GroupError) as caught:
        action()
    return caught.value.code


async def _later_refusal(action: Awaitable[object]) -> ErrorCode:
    with pytest.raises(GroupError) as caught:
        await action
    return caught.value.code


async def test_one_member_leads_and_has_all(group: ConsumerGroup) -> None:
    joined = await group.join(newcomer(), KIND)
    assert joined.leader == joined.member_id
    assert [member_id for member_id, _, _ in joined.members] == [joined.member_id]
    assert await group.sync(joined.member_id, joined.generation, {joined.member_id: b"all"}) == b"all"
    assert group.state is GroupState.STABLE


async def test_a_second_member_makes_the_first_join_again_and_wait_for_its_assignment(
    group: ConsumerGroup,
) -> None:
    first = await _leads(group, newcomer())
    joining = asyncio.create_task(group.join(newcomer(), KIND))
    await eventually(lambda: group.state is GroupState.PREPARING)
    assert _refusal(lambda: group.heartbeat(first.member_id, 1)) is ErrorCode.rebalance_in_progress
    leader = await group.join(again(first), KIND)
    follower = await joining
    assert leader.generation == follower.generation == 2
    assert len(leader.members) == 2
    assert follower.members == ()
    waiting = asyncio.create_task(group.sync(follower.member_id, 2, {}))
    shares = {leader.member_id: b"one half", follower.member_id: b"other half"}
    assert await group.sync(leader.member_id, 2, shares) == b"one half"
    assert await waiting == b"other half"


async def test_a_silent_member_is_removed_and_the_rest_rebalances(group: ConsumerGroup) -> None:
    silent = asyncio.create_task(group.join(newcomer(session_s=SHORT_S), KIND))
    await silent
    waiting = await group.join(newcomer(), KIND)
    assert set(group.members) == {waiting.member_id}
    assert waiting.leader == waiting.member_id


async def test_a_member_that_does_not_join_again_in_time_is_left_out(group: ConsumerGroup) -> None:
    await _leads(group, newcomer(rebalance_s=SHORT_S))
    second = await group.join(newcomer(rebalance_s=SHORT_S), KIND)
    assert set(group.members) == {second.member_id}


async def test_a_leader_that_dies_before_it_assigns_is_replaced(group: ConsumerGroup) -> None:
    first = await _leads(group, newcomer())
    joining = asyncio.create_task(group.join(newcomer(), KIND))
    await eventually(lambda: group.state is GroupState.PREPARING)
    await group.join(again(first), KIND)
    follower = await joining
    waiting = asyncio.create_task(group.sync(follower.member_id, 2, {}))
    await eventually(lambda: group.members[follower.member_id].syncing is not None)
    group.leave(first.member_id)
    assert await _later_refusal(waiting) is ErrorCode.rebalance_in_progress
    rejoined = await group.join(again(follower), KIND)
    assert rejoined.leader == follower.member_id


async def test_the_last_member_that_leaves_empties_the_group_and_keeps_its_offsets(
    group: ConsumerGroup,
) -> None:
    joined = await _leads(group, newcomer())
    group.commit(joined.member_id, joined.generation, {("t", 0): Committed(7, None)})
    group.leave(joined.member_id)
    assert group.state is GroupState.EMPTY
    assert group.offsets == {("t", 0): Committed(7, None)}


async def test_outdated_members_can_neither_commit_nor_stay(group: ConsumerGroup) -> None:
    joined = await _leads(group, newcomer())
    late = {("t", 0): Committed(7, None)}
    assert _refusal(lambda: group.commit(joined.member_id, 0, late)) is ErrorCode.illegal_generation
    assert _refusal(lambda: group.commit("stranger", 1, late)) is ErrorCode.unknown_member_id
    assert _refusal(lambda: group.commit("", -1, late)) is ErrorCode.unknown_member_id
    assert _refusal(lambda: group.heartbeat(joined.member_id, 0)) is ErrorCode.illegal_generation
    assert _refusal(lambda: group.leave("stranger")) is ErrorCode.unknown_member_id
    assert await _later_refusal(group.sync("stranger", 1, {})) is ErrorCode.unknown_member_id
    assert await _later_refusal(group.join(Member("stranger", None, 1, 1, {"range": b""}), KIND)) is (
        ErrorCode.unknown_member_id
    )
    assert group.offsets == {}


async def test_consumers_without_a_group_may_commit_while_it_has_no_members(group: ConsumerGroup) -> None:
    group.commit("", -1, {("t", 0): Committed(3, "by hand")})
    assert group.offsets == {("t", 0): Committed(3, "by hand")}


async def test_a_restarted_static_member_takes_the_place_of_its_former_self(group: ConsumerGroup) -> None:
    former = await _leads(group, newcomer(instance="worker-1"))
    restarted = await group.join(newcomer(instance="worker-1"), KIND)
    assert set(group.members) == {restarted.member_id}
    assert former.member_id != restarted.member_id


async def test_a_strategy_that_all_know_is_chosen(group: ConsumerGroup) -> None:
    first = await _leads(group, newcomer(sticky=b"s", range=b"r"))
    joining = asyncio.create_task(group.join(newcomer(range=b"r2", other=b"o"), KIND))
    await eventually(lambda: group.state is GroupState.PREPARING)
    leader = await group.join(again(first, sticky=b"s", range=b"r"), KIND)
    await joining
    assert leader.protocol == "range"
    assert sorted(metadata for _, _, metadata in leader.members) == [b"r", b"r2"]


async def test_a_member_without_a_common_strategy_is_refused(group: ConsumerGroup) -> None:
    await _leads(group, newcomer(sticky=b"s"))
    code = await _later_refusal(group.join(newcomer(range=b"r"), KIND))
    assert code is ErrorCode.inconsistent_group_protocol
    assert len(group.members) == 1


async def test_a_follower_that_asks_again_gets_the_same_answer(group: ConsumerGroup) -> None:
    first = await _leads(group, newcomer())
    joining = asyncio.create_task(group.join(newcomer(), KIND))
    await eventually(lambda: group.state is GroupState.PREPARING)
    leader = await group.join(again(first), KIND)
    follower = await joining
    await group.sync(leader.member_id, 2, {follower.member_id: b"half"})
    assert await group.join(again(follower), KIND) == follower
    assert group.state is GroupState.STABLE
