"""Receivers that ask to wait: they are obeyed, and their messages use up no attempts."""

from __future__ import annotations

import math

import pytest
from aiohttp import web

from tests.support.webhooks import DOCUMENTED_MS, MINUTE_MS, Outbox, Received, alert, receiving


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
