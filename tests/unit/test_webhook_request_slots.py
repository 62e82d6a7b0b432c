"""Room for requests is shared out by what is under way and by how long receivers take."""

from __future__ import annotations

from collections import Counter
from uuid import UUID, uuid4

from app.rules.alert import Alert
from app.webhooks.delivery.message import Message
from app.webhooks.delivery.outbox import Claimed
from app.webhooks.delivery.request_slots import SLOW_MS, RequestSlots
from tests.support.alerts import make_alert


def message_to(target: UUID) -> Claimed:
    message = Message(uuid4(), "alert", (Alert.from_dict(make_alert(1), 1),))
    return Claimed(message, uuid4(), target, "https://a.example", "json", (), 0, 0, 0, True)


def test_a_target_is_slow_while_a_request_waits_long_and_until_an_answer_is_quick() -> None:
    slots, target = RequestSlots(128, 8), uuid4()
    one, other = message_to(target), message_to(target)
    slots.began(one, 0)
    assert target not in slots.room(Counter([target]), SLOW_MS - 1).slow
    room = slots.room(Counter([target]), SLOW_MS)
    assert (room.total, room.shared, set(room.slow), room.slow_total) == (127, 111, {target}, 63)
    slots.ended(one, 14_000)
    assert target in slots.room(Counter(), SLOW_MS).slow
    slots.began(other, SLOW_MS)
    slots.ended(other, 20)
    assert target not in slots.room(Counter(), 2 * SLOW_MS).slow


def test_a_request_that_was_given_up_says_nothing_of_its_target() -> None:
    slots, target = RequestSlots(128, 8), uuid4()
    slots.began(one := message_to(target), 0)
    slots.ended(one, None)
    assert set(slots.room(Counter(), 10 * SLOW_MS).slow) == set()


def test_room_for_slow_targets_is_what_they_have_not_taken_of_their_half() -> None:
    slots, targets = RequestSlots(16, 8), [uuid4() for _ in range(4)]
    for target in targets:
        slots.began(one := message_to(target), 0)
        slots.ended(one, SLOW_MS)
    room = slots.room(Counter({target: 3 for target in targets}), 0)
    assert (room.total, room.slow_total) == (4, 0)
    assert slots.room(Counter({targets[0]: 3}), 0).slow_total == 5
