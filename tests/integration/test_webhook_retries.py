"""Receivers that fail, refuse and die: nothing is lost, and retries come when they should."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from app.local.servers.ports import free_port
from tests.support.webhooks import (
    DOCUMENTED_MS,
    HOUR_MS,
    Outbox,
    Received,
    Receiver,
    alert,
    receiving,
)


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
