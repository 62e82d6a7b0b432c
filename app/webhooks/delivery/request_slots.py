"""Slots for requests, divided so that slow receivers leave enough for the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from app.webhooks.delivery.outbox import Claimed, Room

SLOW_MS: Final = 2_000
"""A target whose answer takes this long is slow until an answer is quicker."""
_MOST_REMEMBERED: Final = 10_000


class RequestSlots:
    """The slots of one sender. The last eighth is for targets without a request in flight; slow targets together get at
    most half of the slots. Answers, and requests that are in flight for long, show which targets are slow."""

    def __init__(self, concurrency: int, target_concurrency: int) -> None:
        self._concurrency = concurrency
        self._target_concurrency = target_concurrency
        self._reserved = concurrency // 8
        self._for_slow = max(1, concurrency // 2)
        self._began_ms: dict[UUID, tuple[UUID, int]] = {}
        self._were_slow: dict[UUID, None] = {}

    def began(self, claimed: Claimed, now_ms: int) -> None:
        self._began_ms[claimed.message.delivery_id] = (claimed.target_id, now_ms)

    def ended(self, claimed: Claimed, duration_ms: int | None) -> None:
        """Free the slot. `duration_ms` None: it was given up without an answer."""
        self._began_ms.pop(claimed.message.delivery_id, None)
        if duration_ms is None:
            return
        self._were_slow.pop(claimed.target_id, None)
        if duration_ms >= SLOW_MS:
            self._were_slow[claimed.target_id] = None
            if len(self._were_slow) > _MOST_REMEMBERED:
                del self._were_slow[next(iter(self._were_slow))]

    def room(self, in_flight: Mapping[UUID, int], now_ms: int) -> Room:
        """Return the capacity for more requests, by target."""
        total = self._concurrency - sum(in_flight.values())
        waiting_long = {
            target for target, began_ms in self._began_ms.values() if now_ms - began_ms >= SLOW_MS
        }
        slow = waiting_long.union(self._were_slow)
        return Room(
            total,
            self._target_concurrency,
            in_flight,
            shared=max(0, total - self._reserved),
            slow=slow,
            slow_total=max(0, self._for_slow - sum(in_flight.get(target, 0) for target in slow)),
        )
