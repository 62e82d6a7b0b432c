"""Receivers that fail, refuse, stall and die: nothing is lost, and retries come when they should."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from app.local.servers.ports import free_port
from app.settings import Settings
from app.webhooks.delivery.sender import Sender, SenderLimits
from tests.support.eventually import eventually
from tests.support.metric_values import UNREAD
from tests.support.webhooks import NOTED_NOWHERE, Outbox, Received, Receiver, alert, outbox, receiving

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DOCUMENTED_MS = [
    0, 5_000, 5 * MINUTE_MS, 30 * MINUTE_MS,
    2 * HOUR_MS, 5 * HOUR_MS, 10 * HOUR_MS, 14 * HOUR_MS, 20 * HOUR_MS, 24 * HOUR_MS,
]  # fmt: skip
"""As WEBHOOKS.md has it, written down again."""


@pytest.fixture
async def box(settings: Settings) -> AsyncIterator[Outbox]:
    async with outbox(settings) as made:
        yield made


async def test_a_receiver_that_always_fails_is_tried_by_the_schedule_under_one_id_and_then_given_up(
    box: Outbox,
) -> None:
    async with receiving() as receiver:
        receiver.says(500)
        target = await box.add(receiver.url)
        await box.put(alert(1))
        sender, tried_ms = box.sender(), []
        for wait_ms in DOCUMENTED_MS:
            if wait_ms:
                box.clock.advance_ms(wait_ms - 1)
                assert await sender.deliver_due() == 0
                box.clock.advance_ms(1)
            assert await sender.deliver_due() == 1
            tried_ms.append(box.clock.now_ms())
        box.clock.advance_ms(1000 * HOUR_MS)
        assert await sender.deliver_due() == 0
    assert [later - earlier for earlier, later in pairwise(tried_ms)] == DOCUMENTED_MS[1:]
    assert len(receiver.received) == 10
    assert len(set(receiver.ids)) == 1
    assert len({one.body for one in receiver.received}) == 1
    delivery, attempts = await box.log().get((await box.deliveries())[0].id)
    assert (delivery.status, delivery.attempts, delivery.error) == ("dead", 10, "server_error")
    assert [round(one.at.timestamp() * 1000) for one in attempts] == tried_ms
    assert [one.attempt for one in attempts] == list(range(1, 11))
    assert (await box.targets().get(target.id)).disabled_reason == "exhausted"


async def test_each_attempt_is_signed_anew_for_the_public_library(box: Outbox) -> None:
    async with receiving() as receiver:
        receiver.says(503)
        target = await box.add(receiver.url)
        await box.put(alert(1))
        sender = box.sender()
        await sender.deliver_due()
        box.clock.advance_ms(5_000)
        await sender.deliver_due()
    first, second = receiver.received
    assert int(second.headers["webhook-timestamp"]) == int(first.headers["webhook-timestamp"]) + 5
    verifier = Webhook(await box.targets().secret(target.id))
    for one in (first, second):
        # the library takes no message older than minutes by the wall clock, so the time is not checked here
        moment = datetime.fromtimestamp(int(one.headers["webhook-timestamp"]), UTC)
        signed = verifier.sign(one.id, moment, one.body.decode())
        assert signed == one.headers["webhook-signature"]


async def test_a_target_that_let_something_through_meanwhile_is_not_switched_off(box: Outbox) -> None:
    async with receiving() as receiver:

        async def answer(received: Received) -> web.StreamResponse:
            return web.Response(status=500 if received.json["data"]["seq"] == 1 else 200)

        receiver.answer = answer
        target = await box.add(receiver.url)
        await box.put(alert(1))
        sender = box.sender()
        for number, wait_ms in enumerate(DOCUMENTED_MS):
            box.clock.advance_ms(wait_ms)
            await box.put(alert(100 + number))
            await sender.deliver_due()
    assert (await box.targets().get(target.id)).enabled
    statuses = [delivery.status for delivery in await box.deliveries()]
    assert statuses == ["dead", *["delivered"] * 10]


async def test_410_switches_the_target_off_and_what_waited_is_sent_when_it_is_on_again(box: Outbox) -> None:
    async with receiving() as receiver, receiving() as other:
        receiver.says(410)
        target = await box.add(receiver.url)
        await box.add(other.url)
        await box.put(alert(1), alert(2), alert(3))
        sender = box.sender(target_concurrency=1)
        await sender.deliver_due()
        assert len(receiver.received) == 1
        assert other.seqs == [1, 2, 3]
        found = await box.targets().get(target.id)
        assert (found.enabled, found.disabled_reason, found.pending, found.dead) == (False, "gone", 2, 1)
        assert await box.put(alert(4)) == 1

        receiver.says(200)
        box.clock.advance_ms(HOUR_MS)
        await box.targets().enable(target.id)
        assert await box.log().redeliver_dead(target.id) == 1
        await sender.deliver_due()
    assert sorted(receiver.seqs[1:]) == [1, 2, 3]


@pytest.mark.parametrize(("status", "retry_after"), [(429, "120"), (503, "120")])
async def test_retry_after_holds_back_everything_for_that_target_and_nothing_for_others(
    box: Outbox, status: int, retry_after: str
) -> None:
    async with receiving() as receiver, receiving() as other:
        receiver.says(status, {"Retry-After": retry_after})
        await box.add(receiver.url)
        await box.add(other.url)
        sender = box.sender()
        await box.put(alert(1))
        await sender.deliver_due()
        receiver.says(200)
        await box.put(alert(2))
        box.clock.advance_ms(119_999)
        await sender.deliver_due()
        assert receiver.seqs == [1]
        assert other.seqs == [1, 2]
        box.clock.advance_ms(1)
        await sender.deliver_due()
    assert sorted(receiver.seqs[1:]) == [1, 2]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_target_that_takes_so_many_at_a_time_is_paced_and_uses_up_no_attempts(
    box: Outbox, status: int
) -> None:
    """5 every 2 s: 60 alerts are twelve rounds."""
    taken: list[int] = []

    async def answer(_: Received) -> web.StreamResponse:
        now_ms = box.clock.now_ms()
        window_ms = now_ms - now_ms % 2_000
        if sum(one >= window_ms for one in taken) >= 5:
            wait_s = math.ceil((window_ms + 2_000 - now_ms) / 1000)
            return web.Response(status=status, headers={"Retry-After": str(wait_s)})
        taken.append(now_ms)
        return web.Response()

    async with receiving() as receiver, receiving() as other:
        receiver.answer = answer
        target = await box.add(receiver.url)
        await box.add(other.url)
        await box.put(*(alert(number) for number in range(60)))
        sender = box.sender()
        began_ms = box.clock.now_ms()
        while len(taken) < 60:
            await sender.deliver_due()
            assert len(other.received) == 60
            box.clock.advance_ms(100)
        await sender.deliver_due()
    assert 22_000 <= box.clock.now_ms() - began_ms <= 30_000
    deliveries = [one for one in await box.deliveries() if one.target_id == target.id]
    assert {(one.status, one.attempts) for one in deliveries} == {("delivered", 1)}
    assert (await box.targets().get(target.id)).failures == 0
    # rounds begin with one message: a window costs a handful of refusals at the start, few after it
    assert len(receiver.received) < 60 + 12 * 9


async def test_whoever_only_asks_to_wait_is_asked_ever_less_and_at_last_given_up(box: Outbox) -> None:
    async with receiving() as receiver:
        receiver.says(429, {"Retry-After": "0"})
        target = await box.add(receiver.url)
        await box.put(*(alert(number) for number in range(3)))
        sender = box.sender()
        for _ in range(600):
            await sender.deliver_due()
            box.clock.advance_ms(100)
        # waits of 0.5, 1, 2, 4, 8, 16 and 32 s, one message each after the first three
        assert len(receiver.received) <= 3 + 7
        assert {(one.status, one.attempts) for one in await box.deliveries()} == {("pending", 0)}
        box.clock.advance_ms(sum(DOCUMENTED_MS))
        for wait_ms in DOCUMENTED_MS:
            box.clock.advance_ms(wait_ms + wait_ms // 10)
            for _ in range(3):  # one message each
                box.clock.advance_ms(2 * MINUTE_MS)
                await sender.deliver_due()
    # the first to be given up takes the target off, with what else waits for it
    assert [one.status for one in await box.deliveries()].count("dead") == 1
    assert (await box.targets().get(target.id)).disabled_reason == "exhausted"


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


async def test_429_without_retry_after_is_tried_again_by_the_schedule(box: Outbox) -> None:
    async with receiving() as receiver:
        receiver.says(429)
        await box.add(receiver.url)
        await box.put(alert(1))
        sender = box.sender()
        await sender.deliver_due()
        receiver.says(200)
        box.clock.advance_ms(5_000)
        await sender.deliver_due()
    delivery, attempts = await box.log().get((await box.deliveries())[0].id)
    assert (delivery.status, [one.outcome for one in attempts]) == (
        "delivered",
        ["rate_limited", "delivered"],
    )


async def test_telegram_s_wait_is_read_from_its_body(box: Outbox) -> None:
    async with receiving() as receiver:

        async def answer(_: Received) -> web.StreamResponse:
            return web.json_response({"ok": False, "parameters": {"retry_after": 40}}, status=429)

        receiver.answer = answer
        await box.add(receiver.url.replace("/hook", "/bot1:a/sendMessage?chat_id=7"), format="telegram")
        await box.put(alert(1))
        sender = box.sender()
        await sender.deliver_due()
        box.clock.advance_ms(39_999)
        assert await sender.deliver_due() == 0
        box.clock.advance_ms(1)
        assert await sender.deliver_due() == 1
    assert receiver.received[0].path == "/bot1:a/sendMessage"
    assert receiver.received[0].json["chat_id"] == "7"


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


async def test_a_receiver_that_dies_and_comes_back_gets_everything(box: Outbox) -> None:
    port = free_port()
    sender = box.sender()
    async with receiving(port) as receiver:
        await box.add(receiver.url)
        await box.put(alert(1))
        await sender.deliver_due()
    await box.put(alert(2), alert(3))
    await sender.deliver_due()
    async with receiving(port) as again:
        box.clock.advance_ms(5_000)
        await sender.deliver_due()
    assert receiver.seqs == [1]
    assert sorted(again.seqs) == [2, 3]


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


async def test_redelivery_sends_the_same_message_under_the_same_id(box: Outbox) -> None:
    async with receiving() as receiver:
        await box.add(receiver.url)
        await box.put(alert(1))
        sender = box.sender()
        await sender.deliver_due()
        delivery = (await box.deliveries())[0]
        assert await box.log().redeliver([delivery.id]) == 1
        await sender.deliver_due()
    assert len(receiver.received) == 2
    assert len(set(receiver.ids)) == 1
    assert receiver.received[0].body == receiver.received[1].body


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


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_receivers_and_senders_do_every_alert_arrives_under_one_id(
    box: Outbox, seed: int
) -> None:
    """Answers at random, and senders that vanish at random: after claiming, or after the answer and before it is
    recorded. In the end the receivers recover."""
    chance = random.Random(seed)
    bad = [
        (500, {}),
        (404, {}),
        (302, {"Location": "http://169.254.169.254/"}),
        (429, {"Retry-After": "3"}),
        (503, {}),
    ]
    async with receiving() as one, receiving() as two:

        async def answer(_: Received) -> web.StreamResponse:
            status, headers = chance.choice([(200, {}), *bad])
            return web.Response(status=status, headers=headers)

        one.answer = two.answer = answer
        await box.add(one.url)
        await box.add(two.url, digest_s=60)
        sender = box.sender(target_concurrency=3)
        for number in range(40):
            await box.put(alert(number))
            await sender.step()
            if chance.random() < 0.4:
                await sender.deliver_due()
            if chance.random() < 0.3:
                await sender.abandon()
                sender = box.sender(target_concurrency=3)
            box.clock.advance_ms(chance.choice([0, 1_000, 6_000, 61_000]))
        one.says(200)
        two.says(200)
        for wait_ms in DOCUMENTED_MS:
            box.clock.advance_ms(wait_ms + 60_000)
            await sender.deliver_due()
    assert {delivery.status for delivery in await box.deliveries()} == {"delivered"}
    for receiver, seqs in ((one, one.seqs), (two, digests(two))):
        assert set(seqs) == set(range(40))
        bodies = {received.id: received.body for received in receiver.received}
        assert all(bodies[received.id] == received.body for received in receiver.received)
        assert len(bodies) < len(receiver.received)
    assert len(set(one.ids)) == 40


def digests(receiver: Receiver) -> list[int]:
    return [one["seq"] for received in receiver.received for one in received.json["data"]["alerts"]]
