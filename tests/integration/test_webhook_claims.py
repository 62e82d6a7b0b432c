"""How senders claim messages: under a lease, with room for every target; several alerts in one message of a digest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest
from psycopg import AsyncConnection

from app.process.quarantine import Attempts
from app.telemetry import DatabaseMetrics, pipeline_metrics
from app.webhooks.delivery import attempt
from app.webhooks.delivery.message import DIGEST_MAX_ALERTS
from app.webhooks.delivery.outbox import Claimed, Room, claim, load_messages, release
from tests.support.metric_values import UNREAD
from tests.support.webhooks import LEASE_MS, PLENTY, Outbox, alert, receiving, seqs

HOOK = "https://example.com/hook"


async def test_a_message_is_claimed_by_one_sender_and_by_another_when_the_lease_is_over(box: Outbox) -> None:
    await box.add(HOOK)
    await box.put(alert(1), alert(2))
    first = await box.claim(Room(1, 1, {}))
    second = await box.claim()
    assert (seqs(first), seqs(second)) == ([[1]], [[2]])
    box.clock.advance_ms(LEASE_MS - 1)
    assert await box.claim() == []
    box.clock.advance_ms(1)
    again = await box.claim()
    assert seqs(again) == [[1], [2]]
    assert {one.message.id for one in again} == {one.message.id for one in first + second}

    await box.settle(first)
    assert {delivery.status for delivery in await box.deliveries()} == {"pending"}
    await box.settle(again)
    assert {delivery.status for delivery in await box.deliveries()} == {"delivered"}
    _, attempts = await box.log().get(first[0].message.delivery_id)
    assert len(attempts) == 2


async def test_two_senders_at_once_share_the_messages_without_one_in_common(box: Outbox) -> None:
    await box.add(HOOK)
    await box.put(*(alert(number) for number in range(40)))
    async with box.pool.connection() as one, box.pool.connection() as two, one.transaction():
        mine = await claim(one, box.clock.now_ms(), LEASE_MS, Room(15, 15, {}))
        # the first is not committed yet: its rows are locked, and skipped
        theirs = await claim(two, box.clock.now_ms(), LEASE_MS, PLENTY)
    assert len(mine) == 15
    assert len(theirs) == 25
    assert sorted(seq for [seq] in seqs(mine) + seqs(theirs)) == list(range(40))


async def test_what_is_released_is_due_at_once(box: Outbox) -> None:
    await box.add(HOOK)
    await box.put(alert(1))
    claimed = await box.claim()
    await release(box.connection, claimed)
    assert seqs(await box.claim()) == [[1]]


async def test_one_busy_target_leaves_room_for_the_others(box: Outbox) -> None:
    busy = await box.add(HOOK, symbols=("AUSDT",))
    await box.add(HOOK, symbols=("BUSDT",))
    await box.put(*(alert(number, symbol="AUSDT") for number in range(100)), alert(100, symbol="BUSDT"))
    claimed = await box.claim(Room(10, 4, {busy.id: 1}))
    assert seqs(claimed) == [[0], [1], [2], [100]]


async def test_slow_targets_share_what_is_theirs_and_those_with_least_under_way_come_first(
    box: Outbox,
) -> None:
    slow = [(await box.add(f"https://slow{number}.example/")).id for number in range(3)]
    quick = (await box.add("https://quick.example/")).id
    await box.put(*(alert(number) for number in range(10)))
    taken = await box.claim(Room(20, 8, {}, shared=9, slow=slow, slow_total=5))
    # 5 of the slow ones, the 4 of the quick one that fit into the shared part
    assert Counter(one.target_id for one in taken)[quick] == 4
    assert sorted(Counter(one.target_id for one in taken if one.target_id != quick).values()) == [1, 2, 2]
    other = (await box.add("https://other.example/")).id
    await box.put(*(alert(number) for number in range(10, 12)))
    taken = await box.claim(Room(3, 8, {quick: 4}, shared=0, slow=slow, slow_total=0))
    assert [one.target_id for one in taken] == [other]


async def test_a_digest_gathers_until_its_minute_is_over_and_is_one_message_from_then_on(box: Outbox) -> None:
    async with receiving() as receiver:
        await box.add(receiver.url, digest_s=60)
        sender = box.sender()
        await box.put(alert(1), alert(2))
        box.clock.advance_ms(59_999)
        await box.put(alert(3))
        assert await sender.deliver_due() == 0
        box.clock.advance_ms(1)
        receiver.says(500)
        await box.put(alert(4))
        assert await sender.deliver_due() == 1
        receiver.says(200)
        box.clock.advance_ms(5_000)
        assert await sender.deliver_due() == 1
        box.clock.advance_ms(60_000)
        assert await sender.deliver_due() == 1
    first, again, second = receiver.received
    assert first.body == again.body
    assert first.id == again.id != second.id
    assert [one["seq"] for one in first.json["data"]["alerts"]] == [1, 2, 3]
    assert [one["seq"] for one in second.json["data"]["alerts"]] == [4]
    deliveries = await box.deliveries()
    assert [(one.status, one.attempts) for one in deliveries] == [("delivered", 2)] * 3 + [("delivered", 1)]


async def test_many_alerts_of_a_digest_go_in_several_messages(box: Outbox) -> None:
    await box.add(HOOK, digest_s=60)
    count = 2 * DIGEST_MAX_ALERTS + 3
    await box.put(*(alert(number) for number in range(count)))
    box.clock.advance_ms(60_000)
    found = seqs(await box.claim())
    assert [len(part) for part in found] == [DIGEST_MAX_ALERTS, DIGEST_MAX_ALERTS, 3]
    assert [seq for part in found for seq in part] == list(range(count))


async def test_redelivering_one_alert_of_a_digest_sends_the_digest_again(box: Outbox) -> None:
    await box.add(HOOK, digest_s=60)
    await box.put(alert(1), alert(2))
    box.clock.advance_ms(60_000)
    await box.settle(await box.claim())
    assert await box.log().redeliver([(await box.deliveries())[1].id]) == 1
    assert seqs(await box.claim()) == [[1, 2]]


async def test_a_message_at_which_the_sender_ended_three_times_is_given_up_and_the_others_go(
    box: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as receiver:
        await box.add(receiver.url)
        await box.put(alert(1), alert(2), alert(3))
        poison = (await box.deliveries())[1].id

        async def load(
            connection: AsyncConnection, ids: Sequence[UUID], now_ms: int, metrics: DatabaseMetrics
        ) -> list[Claimed]:
            if poison in ids:
                raise RuntimeError("what it was")
            return await load_messages(connection, ids, now_ms, metrics)

        monkeypatch.setattr(attempt, "load_messages", load)

        async def started() -> int:
            """As the process does after each end."""
            attempts = Attempts(tmp_path, "webhooks-outbox", pipeline_metrics(UNREAD))
            attempts.open()
            try:
                return await box.sender(attempts=attempts).deliver_due()
            finally:
                attempts.close()

        for _ in range(3):
            with pytest.raises(RuntimeError, match="what it was"):
                await started()
        assert await started() == 2
    assert sorted(receiver.seqs) == [1, 3]
    assert [one.status for one in await box.deliveries()] == ["delivered", "dead", "delivered"]
