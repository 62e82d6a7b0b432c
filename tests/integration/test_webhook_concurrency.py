"""Requests at the same time: how many, in what order, and from several senders."""

from __future__ import annotations

import asyncio
from collections import Counter

from aiohttp import web

from app.webhooks.delivery.sender import Sender, SenderLimits
from tests.support.eventually import eventually
from tests.support.metric_values import UNREAD
from tests.support.webhooks import NOTED_NOWHERE, Outbox, Received, alert, receiving


async def test_users_whose_receivers_take_long_leave_room_for_the_others(box: Outbox) -> None:
    async with receiving() as slow, receiving() as quick:
        release = asyncio.Event()

        async def answer(_: Received) -> web.StreamResponse:
            await release.wait()
            return web.Response()

        slow.answer = answer
        for number in range(16):
            await box.user(f"slow-{number}", f"{slow.url}/{number}", "*")
        await box.put(*(alert(number) for number in range(40)))
        sender = box.sender(concurrency=128)
        await sender.step()
        await eventually(lambda: slow.at_once == 112)
        assert await sender.step() == 0
        paths = Counter(one.path for one in slow.received)
        assert set(paths.values()) == {7}

        await box.user("quick", quick.url, "*")
        await box.put(*(alert(number) for number in range(40, 60)))
        for _ in range(200):
            await sender.step()
            if len(quick.received) == 20:
                break
            await asyncio.wait(sender._in_flight, return_when=asyncio.FIRST_COMPLETED)
        assert sorted(quick.seqs) == list(range(40, 60))
        release.set()
        await sender.deliver_due()
    assert {one.status for one in await box.deliveries()} == {"delivered"}


async def test_a_message_that_waits_for_its_retry_holds_up_no_newer_one(box: Outbox) -> None:
    async with receiving() as receiver:
        receiver.says(500)
        await box.add(receiver.url)
        sender = box.sender()
        await box.put(alert(1))
        await sender.deliver_due()
        receiver.says(200)
        await box.put(alert(2), alert(3))
        await sender.deliver_due()
        box.clock.advance_ms(5_000)
        await sender.deliver_due()
    assert receiver.seqs == [1, 2, 3, 1]


async def test_one_at_a_time_keeps_the_order_of_the_alerts(box: Outbox) -> None:
    async with receiving() as receiver:
        await box.add(receiver.url)
        await box.put(*(alert(number) for number in range(50)))
        await box.sender(target_concurrency=1).deliver_due()
    assert receiver.seqs == list(range(50))
    assert receiver.most_at_once == 1


async def test_requests_to_a_target_and_in_all_are_bounded(box: Outbox) -> None:
    async with receiving() as one, receiving() as two:
        release = asyncio.Event()

        async def answer(_: Received) -> web.StreamResponse:
            await release.wait()
            return web.Response()

        one.answer = two.answer = answer
        await box.add(one.url)
        await box.add(two.url)
        await box.put(*(alert(number) for number in range(20)))
        sender = box.sender(target_concurrency=4, concurrency=6)
        begun = [await sender.step() for _ in range(3)]
        assert begun == [6, 0, 0]
        await eventually(lambda: one.at_once + two.at_once == 6)
        release.set()
        await sender.deliver_due()
    assert max(one.most_at_once, two.most_at_once) <= 4
    assert sorted(one.seqs) == sorted(two.seqs) == list(range(20))


async def test_a_target_that_fails_is_tried_with_one_message_at_a_time(box: Outbox) -> None:
    async with receiving() as receiver:
        receiver.says(500)
        await box.add(receiver.url)
        sender = box.sender()
        await box.put(alert(0))
        await sender.deliver_due()
        await box.put(*(alert(number) for number in range(1, 20)))
        receiver.most_at_once = 0
        await sender.deliver_due()
        assert receiver.most_at_once == 1
        assert (await box.targets().all())[0].failures == 20
        receiver.says(200)
        box.clock.advance_ms(5_000)
        await sender.deliver_due()
    assert {delivery.status for delivery in await box.deliveries()} == {"delivered"}
    assert (await box.targets().all())[0].failures == 0


async def test_several_senders_share_the_outbox_and_send_nothing_twice(box: Outbox) -> None:
    async with receiving() as one, receiving() as two:
        await box.add(one.url)
        await box.add(two.url)
        await box.put(*(alert(number) for number in range(60)))
        senders = [box.sender(target_concurrency=3) for _ in range(2)]
        attempts = await asyncio.gather(*(sender.deliver_due() for sender in senders))
        attempts.append(await senders[0].deliver_due())
    assert sum(attempts) == 120
    assert all(count > 0 for count in attempts[:2])
    assert sorted(one.seqs) == sorted(two.seqs) == list(range(60))


async def test_what_is_under_way_at_a_stop_is_left_to_others_at_once(box: Outbox) -> None:
    stop, release = asyncio.Event(), asyncio.Event()
    async with receiving() as receiver:

        async def answer(_: Received) -> web.StreamResponse:
            await release.wait()
            return web.Response()

        receiver.answer = answer
        await box.add(receiver.url)
        await box.put(alert(1), alert(2))
        limits = SenderLimits(10, 10, 5.0, stop_grace_s=0.05)
        running = asyncio.create_task(
            Sender(box.pool, box.client, limits, box.clock, lambda: 0.0, NOTED_NOWHERE, UNREAD).run(stop)
        )
        await eventually(lambda: receiver.at_once == 2)
        stop.set()
        await running
        release.set()
        assert await box.sender().deliver_due() == 2
    assert len(set(receiver.ids)) == 2
